;; The inner loops of vectors.js, four rows at a time. `make kernel` makes kernel.wasm of it.
;;
;; Callers see to it that `rows` is a multiple of 4, and that 32 bytes may be read past the last row: a row's last step
;; reads on into the next row, and the query is 0 there. Signed 32-bit sums can't overflow, see `quantised` in vectors.js.
(module
  (import "env" "memory" (memory 1))

  ;; lane i of the result: the sum of the four lanes of the i-th argument
  (func $sums (param $a v128) (param $b v128) (param $c v128) (param $d v128) (result v128)
    (local $ab v128) (local $cd v128)
    (local.set $ab (i32x4.add
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $a) (local.get $b))
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $a) (local.get $b))))
    (local.set $cd (i32x4.add
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $c) (local.get $d))
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $c) (local.get $d))))
    (i32x4.add
      (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $ab) (local.get $cd))
      (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31 (local.get $ab) (local.get $cd))))

  ;; scores[i] = the dot product of the i-th int8 row and the int16 query, both `width` wide
  (func (export "dots")
    (param $row i32) (param $rows i32) (param $width i32) (param $query i32) (param $scores i32)
    (local $end i32) (local $p0 i32) (local $p1 i32) (local $p2 i32) (local $p3 i32) (local $q i32) (local $last i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $x v128) (local $y v128)
    (local.set $end (i32.add (local.get $scores) (i32.shl (local.get $rows) (i32.const 2))))
    ;; the query's end, in steps of 16 numbers of 2 bytes
    (local.set $last (i32.add (local.get $query)
      (i32.shl (i32.and (i32.add (local.get $width) (i32.const 15)) (i32.const -16)) (i32.const 1))))
    (loop $four
      (local.set $p0 (local.get $row))
      (local.set $p1 (i32.add (local.get $p0) (local.get $width)))
      (local.set $p2 (i32.add (local.get $p1) (local.get $width)))
      (local.set $p3 (i32.add (local.get $p2) (local.get $width)))
      (local.set $row (i32.add (local.get $p3) (local.get $width)))
      (local.set $q (local.get $query))
      (local.set $a (v128.const i32x4 0 0 0 0))
      (local.set $b (v128.const i32x4 0 0 0 0))
      (local.set $c (v128.const i32x4 0 0 0 0))
      (local.set $d (v128.const i32x4 0 0 0 0))
      (loop $step
        (local.set $x (v128.load (local.get $q)))
        (local.set $y (v128.load offset=16 (local.get $q)))
        (local.set $a (i32x4.add (local.get $a) (i32x4.add
          (i32x4.dot_i16x8_s (v128.load8x8_s align=1 (local.get $p0)) (local.get $x))
          (i32x4.dot_i16x8_s (v128.load8x8_s offset=8 align=1 (local.get $p0)) (local.get $y)))))
        (local.set $b (i32x4.add (local.get $b) (i32x4.add
          (i32x4.dot_i16x8_s (v128.load8x8_s align=1 (local.get $p1)) (local.get $x))
          (i32x4.dot_i16x8_s (v128.load8x8_s offset=8 align=1 (local.get $p1)) (local.get $y)))))
        (local.set $c (i32x4.add (local.get $c) (i32x4.add
          (i32x4.dot_i16x8_s (v128.load8x8_s align=1 (local.get $p2)) (local.get $x))
          (i32x4.dot_i16x8_s (v128.load8x8_s offset=8 align=1 (local.get $p2)) (local.get $y)))))
        (local.set $d (i32x4.add (local.get $d) (i32x4.add
          (i32x4.dot_i16x8_s (v128.load8x8_s align=1 (local.get $p3)) (local.get $x))
          (i32x4.dot_i16x8_s (v128.load8x8_s offset=8 align=1 (local.get $p3)) (local.get $y)))))
        (local.set $p0 (i32.add (local.get $p0) (i32.const 16)))
        (local.set $p1 (i32.add (local.get $p1) (i32.const 16)))
        (local.set $p2 (i32.add (local.get $p2) (i32.const 16)))
        (local.set $p3 (i32.add (local.get $p3) (i32.const 16)))
        (br_if $step (i32.lt_u (local.tee $q (i32.add (local.get $q) (i32.const 32))) (local.get $last))))
      (v128.store (local.get $scores) (call $sums (local.get $a) (local.get $b) (local.get $c) (local.get $d)))
      (br_if $four (i32.lt_u (local.tee $scores (i32.add (local.get $scores) (i32.const 16))) (local.get $end)))))

  ;; the bits in which 32 bytes at $p differ from $x and $y, added up in four lanes
  (func $bits (param $p i32) (param $x v128) (param $y v128) (result v128)
    (i32x4.extadd_pairwise_i16x8_u (i16x8.extadd_pairwise_i8x16_u (i8x16.add
      (i8x16.popcnt (v128.xor (v128.load align=1 (local.get $p)) (local.get $x)))
      (i8x16.popcnt (v128.xor (v128.load offset=16 align=1 (local.get $p)) (local.get $y)))))))

  ;; scores[i] = minus the number of bits in which the i-th hash of 32 bytes differs from that at $query
  (func (export "likenesses") (param $hash i32) (param $rows i32) (param $query i32) (param $scores i32)
    (local $end i32) (local $x v128) (local $y v128)
    (local.set $end (i32.add (local.get $scores) (i32.shl (local.get $rows) (i32.const 2))))
    (local.set $x (v128.load (local.get $query)))
    (local.set $y (v128.load offset=16 (local.get $query)))
    (loop $four
      (v128.store (local.get $scores) (i32x4.neg (call $sums
        (call $bits (local.get $hash) (local.get $x) (local.get $y))
        (call $bits (i32.add (local.get $hash) (i32.const 32)) (local.get $x) (local.get $y))
        (call $bits (i32.add (local.get $hash) (i32.const 64)) (local.get $x) (local.get $y))
        (call $bits (i32.add (local.get $hash) (i32.const 96)) (local.get $x) (local.get $y)))))
      (local.set $hash (i32.add (local.get $hash) (i32.const 128)))
      (br_if $four (i32.lt_u (local.tee $scores (i32.add (local.get $scores) (i32.const 16))) (local.get $end)))))

  ;; the first index from $from on, in steps of 4, with a score above $least among its 4; $count or more: none
  (func (export "next") (param $scores i32) (param $from i32) (param $count i32) (param $least i32) (result i32)
    (local $wanted v128)
    (local.set $wanted (i32x4.splat (local.get $least)))
    (block $found
      (loop $four
        (br_if $found (i32.ge_u (local.get $from) (local.get $count)))
        (br_if $found (v128.any_true (i32x4.gt_s
          (v128.load (i32.add (local.get $scores) (i32.shl (local.get $from) (i32.const 2)))) (local.get $wanted))))
        (local.set $from (i32.add (local.get $from) (i32.const 4)))
        (br $four)))
    (local.get $from))

  ;; reads `bytes`, a multiple of 128, and does next to nothing with them: the least time that a search can take
  (func (export "read") (param $at i32) (param $bytes i32) (result i32)
    (local $end i32) (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $end (i32.add (local.get $at) (local.get $bytes)))
    (loop $line
      (local.set $a (v128.or (local.get $a) (v128.load (local.get $at))))
      (local.set $b (v128.or (local.get $b) (v128.load offset=16 (local.get $at))))
      (local.set $c (v128.or (local.get $c) (v128.load offset=32 (local.get $at))))
      (local.set $d (v128.or (local.get $d) (v128.load offset=48 (local.get $at))))
      (local.set $a (v128.or (local.get $a) (v128.load offset=64 (local.get $at))))
      (local.set $b (v128.or (local.get $b) (v128.load offset=80 (local.get $at))))
      (local.set $c (v128.or (local.get $c) (v128.load offset=96 (local.get $at))))
      (local.set $d (v128.or (local.get $d) (v128.load offset=112 (local.get $at))))
      (br_if $line (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 128))) (local.get $end))))
    (i8x16.bitmask (v128.or (v128.or (local.get $a) (local.get $b)) (v128.or (local.get $c) (local.get $d)))))
)

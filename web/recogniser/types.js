/**
 * The types that the recogniser's modules share; docs/formats.md describes the files.
 *
 * @typedef {object} Face one row of the index, as meta.json has it; the export may leave fields out
 * @property {string} name
 * @property {string} set
 * @property {string} image_url the picture that was embedded
 * @property {string} card_url the picture to show
 * @property {string} [collector_number]
 * @property {string} [lang]
 * @property {string} [face_id]
 * @property {string | null} [printed_name] in another language, or a flavor name
 * @property {string | null} [oracle_id]
 * @property {string | null} [scryfall_uri]
 * @property {string | null} [artist]
 * @property {string | null} [type_line]
 * @property {string | null} [set_name]
 * @property {string | null} [released_at]
 *
 * @typedef {object} Match
 * @property {number} row
 * @property {number} score
 * @property {Face} face
 *
 * @typedef {[number, number][]} Quad four corners in pixels of the upright picture, from the card's own top left, clockwise
 *
 * @typedef {object} Card a card in a picture
 * @property {Quad | null} quad null: the whole picture
 * @property {number} orientation degrees clockwise that it is turned in the picture: 0, 90, 180, 270
 * @property {Match[]} matches the faces it may be, best first
 * @property {Match[]} printings the faces of the best name that it may be, best first
 * @property {boolean | null} printingSure whether it is the first of them
 * @property {number | null} margin from the best score to that of the best other name
 * @property {number | null} gap to the mean of the ten best other names
 * @property {boolean | null} sure whether the best name stands clear of all others
 * @property {number | null} confidence how likely the best name is right, 0..1
 *
 * @typedef {object} Answer what a picture shows
 * @property {[number, number]} size width and height of the upright picture
 * @property {Card[]} cards
 * @property {number} embedded regions that were embedded
 * @property {{read: number, detect: number, embed: number, search: number}} seconds
 *
 * @typedef {object} Recognition how rows are ranked, see docs/python.md
 * @property {number} hash_weight
 * @property {number} sure_above
 * @property {number} even
 * @property {number} slope
 * @property {number} printing_reach
 *
 * @typedef {object} BundleFile a file of the export
 * @property {string} path relative to bundle.json
 * @property {"records" | "vectors" | "whitened" | "whitening" | "hashes" | "encoder" | "reference"} role
 * @property {number} bytes
 * @property {string} sha256 of the file before compression, hex
 * @property {[number, number]} [rows] the rows it holds, first and one past the last; not of an encoder
 * @property {{path: string, bytes: number}} [gzip] the same compressed
 * @property {{path: string, bytes: number}} [brotli]
 * @property {"fp32" | "fp16" | "int8"} [precision] of an encoder
 * @property {{least: number, mean: number, pictures: number}} [cosine] of an encoder, to torch's vectors
 *
 * @typedef {object} Bundle bundle.json
 * @property {string} version "1.0"
 * @property {string} built when the index was built
 * @property {string} list the card list's file name, which carries its version
 * @property {[number, number]} shape N, D
 * @property {{dtype: "int8", scale_factor: number}} quantization
 * @property {BundleFile[]} files
 * @property {{clip_model: string, weights_sha256: string, embedding_dim: number}} model
 * @property {Preprocessing} preprocessing
 * @property {Recognition} recognition by the raw vectors
 * @property {{bits: number}} [dhash] absent: the index has no hashes
 * @property {{vectors: {shape: [number, number], scale_factor: number}, recognition: Recognition}} [whitening] absent:
 *   the index has no whitening. Its map is float32: mean [D], then axes [D, K] row-major
 * @property {number[]} [reference] the vector [D], raw and of norm 1, of the picture whose role is "reference"
 *
 * @typedef {object} Preprocessing what happens to a picture before the encoder
 * @property {number} target_size side of the square canvas, pixels
 * @property {"pad" | "crop"} fit
 * @property {[number, number, number]} background RGB
 * @property {string} interpolation to the canvas
 * @property {{size: [number, number], mean: number[], std: number[], interpolation: string, resize_mode: string}} input
 *
 * @typedef {object} Progress
 * @property {"records" | "vectors" | "whitened" | "whitening" | "hashes" | "encoder" | "reference" | "outline" | "runtime"} role
 * @property {number} loaded bytes, of all files of this role
 * @property {number} total bytes; 0: not known
 *
 * @typedef {object} RecogniserOptions
 * @property {string | URL} [bundle] bundle.json's address (default: beside the page)
 * @property {string | URL} [vendor] where `make vendor` put the libraries (default: beside this module's folder)
 * @property {"fp32" | "fp16" | "int8" | "none"} [encoder] (default: fp16, else what there is; "none": search only)
 * @property {"wasm" | "webgpu"} [device] (default: wasm)
 * @property {(progress: Progress) => void} [onProgress]
 *
 * @typedef {object} Info
 * @property {number} count faces in the index
 * @property {number} width dimensions of the vectors that are compared
 * @property {boolean} whitened
 * @property {string} built
 * @property {string} list
 * @property {{precision: string, device: string, threads: number, cosine: {least: number, mean: number, pictures: number}} | null} encoder
 *
 * @typedef {object} Recogniser what createRecogniser resolves to, once faces can be searched by name
 * @property {Info} info
 * @property {Promise<void>} ready when pictures can be identified; rejects with a RecogniserError if they can't be
 * @property {Promise<void>} loaded when all names can be searched; rejects with a RecogniserError if a file can't be had
 * @property {(words: string, options?: {set?: string, limit?: number, offset?: number}) =>
 *   Promise<{total: number, faces: {row: number, face: Face}[]}>} search faces whose name contains the words
 * @property {() => Promise<{set: string, name: string | null, count: number}[]>} sets the sets there are, by name
 * @property {(row: number, limit?: number) => Promise<Match[]>} nearest the faces nearest to a row's, itself first
 * @property {(picture: Blob | ImageBitmap | ImageData | CanvasImageSource, options?: IdentifyOptions) => Promise<Answer>} identify
 * @property {(picture: Blob | ImageBitmap | ImageData | CanvasImageSource) => Promise<{vector: Float32Array, hash: Uint8Array}>} embed
 *   a picture as a whole: its raw vector of norm 1, and its hash
 * @property {(video: HTMLVideoElement, options: WatchOptions) => {stop: () => void}} watch identify one frame after another
 * @property {() => void} close ends the worker
 *
 * @typedef {object} IdentifyOptions
 * @property {"auto" | "off" | "all"} [detect] which cards to look for, as query_index.py --detect
 * @property {number} [matches] per card (default: 5)
 * @property {number} [regions] most regions to embed (default: 240; a frame of a video: 4)
 * @property {number} [edges] pixels: the longer side that a picture is reduced to before its edges are searched (default:
 *   1000; a frame of a video: 500)
 *
 * @typedef {object} Watching
 * @property {(answer: Answer, frame: ImageBitmap) => void} [onFrame] after each frame; the bitmap is closed afterwards
 * @property {(card: Card, frame: ImageBitmap) => void} onCard a sure card that the frame before did not show
 * @property {(error: Error) => void} [onError] a frame could not be identified; no further one is tried
 *
 * @typedef {Watching & IdentifyOptions} WatchOptions
 */

export {};

"""The cards to draw: invented cards in Scryfall's format, of every layout family, with reprints and translations.

A catalogue is a list of card objects as in Scryfall's bulk list, except that `picture`, a file name, replaces the
pictures' URLs. The stand-in fills those in.
"""

import itertools
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

MAX_CARDS = 6000  # some way beyond that the names run out
KIND_SHARES = (49, 22, 10, 8, 8, 3)  # of creatures, spells, artifacts, enchantments, lands, planeswalkers
SPECIAL_EVERY = 3  # one in so many cards is not plain: see _SPECIALS
DIGITAL_EVERY = 60
PATTERN_SHARE = 0.55  # of the art shows no scene that the name would suggest
FOIL_SHARE = 0.12

COLOURS = ("W", "U", "B", "R", "G")
WORDS_OF_COLOUR = {
    "W": ("Dawn", "Radiant", "Ivory", "Oathbound", "Gilded", "Hallowed"),
    "U": ("Tidal", "Mistveil", "Glass", "Drowned", "Whispering", "Stormborn"),
    "B": ("Hollow", "Grave", "Nightshade", "Ashen", "Ravenous", "Forsaken"),
    "R": ("Ember", "Cinder", "Thunder", "Reckless", "Molten", "Howling"),
    "G": ("Bramble", "Mossback", "Wild", "Elder", "Thornwood", "Verdant"),
    "": ("Iron", "Clockwork", "Forgotten", "Runed", "Shattered", "Nameless"),
}
PLACES = (
    *("the Pale Coast", "Karst Hollow", "the Sunken Court", "Vael", "the Ninth Gate", "Ember Reach", "the Long Dark"),
    *("Orrin's Wake", "the Glass Desert", "Thornmere", "the Upper Air", "Saltspire", "the Quiet Host", "Duskfall"),
    *("Ur", "the Many-Tongued Assembly", "Low Harrow", "the Weeping Isles", "Kezh", "the Thousandth Year"),
)
GIVEN_NAMES = (
    *("Isolde", "Maruk", "Tavi", "Oren", "Sephra", "Jorund", "Nyx", "Calder", "Ysolde", "Brannoc", "Ilmari", "Quill"),
    *("Vesna", "Hadrik", "Osei", "Liora", "Takoda", "Emeric", "Sunniva", "Roake", "Bo", "Xiadne", "Wulfrun", "Ezekar"),
)
STEMS = (
    "Dusk",
    "Bone",
    "Storm",
    "Iron",
    "Moon",
    "Blood",
    "Frost",
    "Star",
    "Thorn",
    "Ash",
    "Gloom",
    "Sky",
    "Rime",
    "Sun",
)
ARTISTS = (
    *("A. Brush", "Mira Quell", "T. Oakes", "Lena Varga", "Joss Imre", "P. Halloran", "Suki Amane", "R. de Wit"),
    *("Wilhelmina Ostrander-Pike", "Bo Li", "Studio Nine", "Y. Achterberg & K. Moor"),
)


def _painted_as(**things: str) -> dict[str, str]:
    """Noun -> what is painted, from what is painted -> its nouns."""
    return {noun: subject for subject, nouns in things.items() for noun in nouns.split()}


CREATURES = _painted_as(
    figure="Wizard Knight Angel Rogue Monk Archer Pirate Shaman Druid Vampire Cleric",
    dragon="Dragon Drake Wyvern",
    beast="Hound Elk Behemoth Ox Lynx Boar Rat",
    bird="Raven Phoenix Owl Griffin",
    serpent="Serpent Wurm Naga Eel",
    golem="Golem Construct Giant",
    treefolk="Treefolk Dryad Fungus",
    spider="Spider Scarab Insect",
    kraken="Kraken Leviathan Octopus",
    horror="Horror Eye Nightmare Ooze",
    skull="Skeleton Zombie",
)
THINGS = _painted_as(
    blade="Blade Spear Axe",
    vessel="Chalice Urn Lantern",
    orb="Orb Lens Compass",
    book="Codex Ledger Map",
    shield="Aegis Mirror",
    ship="Galleon Skiff Chariot",
    skull="Crown Mask",
)
SPELLS = _painted_as(
    lightning="Bolt Tempest Surge",
    fire="Blaze Pyre Rage",
    portal="Rift Passage Return",
    crystals="Growth Geode Bloom",
    runes="Sigil Litany Verdict Riddle",
    skull="Omen Ruin",
)
LAND_NAMES = _painted_as(
    castle="Keep Bastion",
    city="Spires Market",
    woods="Grove Wilds",
    sea="Shore Lagoon",
    cave="Caverns Pit",
    mountains="Peak Crags",
    hills="Fen Downs",
    hall="Vault Archive",
)
BASIC_LANDS = {  # name, what is painted
    "W": ("Plains", "hills"),
    "U": ("Island", "sea"),
    "B": ("Swamp", "cave"),
    "R": ("Mountain", "mountains"),
    "G": ("Forest", "woods"),
}
MOODS_OF_COLOUR = {
    "W": ("day", "dawn", "arctic", "desert"),
    "U": ("deep", "arctic", "arcane", "night"),
    "B": ("night", "swamp", "dusk", "inferno"),
    "R": ("inferno", "desert", "dusk", "dawn"),
    "G": ("swamp", "day", "deep", "dawn"),
    "": ("desert", "night", "arcane", "dusk"),
}
PEOPLES = ("", "", "Human ", "Elf ", "Goblin ", "Merfolk ", "Spirit ", "Zombie ", "Cat ", "Ogre Elder ")
KEYWORDS = ("Flying", "Vigilance", "Trample", "Haste", "Reach", "First strike", "Menace", "Deathtouch", "Ward {2}")
ABILITIES = (
    "When {me} enters, draw a card, then discard a card.",
    "Whenever {me} attacks, it gets +2/+0 until end of turn.",
    "{T}: Add one mana of any colour.",
    "Other creatures you control get +1/+1.",
    "When {me} dies, return target card from your graveyard to your hand.",
    "{2}, {T}: Tap target creature. It doesn't untap during its controller's next untap step.",
    "At the beginning of your upkeep, look at the top card of your library.",
    "Sacrifice {me}: It deals 2 damage to any target.",
    "{me} can't block.",
    "{B}, {T}, Pay 1 life: Search your library for a card, then shuffle and put that card on top.",
    "As long as you have no cards in hand, {me} has base power and toughness 6/6 and can't be the target of spells or "
    "abilities your opponents control.",
)
EVENTS = (
    *("Whenever you cast a spell, ", "At the beginning of your end step, ", "{2}{G}: ", "{T}: ", "When {me} dies, "),
    *("Whenever a creature dies, ", "If you would draw a card, instead ", "Whenever you gain life, ", "{X}{R}{R}: "),
    *("As an additional cost to cast this, discard a card or ", "At the beginning of each upkeep, ", "{10}: "),
)
OUTCOMES = (
    *("draw a card.", "you gain 2 life.", "each opponent loses 1 life and you gain 1 life.", "untap {me}.", "scry 2."),
    *("create a 1/1 white Soldier creature token with vigilance for each creature card in your graveyard.",),
    *("put a +1/+1 counter on target creature you control.", "it deals 1 damage to any target.", "mill four cards."),
    *("you may pay {1}{U}. If you do, return target nonland permanent to its owner's hand.", "regenerate {me}."),
    *(
        "exile the top card of your library. Until the end of your next turn, you may play that card without paying "
        "its mana cost. (You still pay additional costs.)",
    ),
)
EFFECTS = (
    "Destroy target creature. Its controller gains 3 life.",
    "{me} deals 4 damage divided as you choose among any number of targets.",
    "Counter target spell unless its controller pays {3}.",
    "Draw three cards, then put two cards from your hand on top of your library in any order.",
    "Creatures you control get +2/+2 and gain trample until end of turn.",
    "Exile target permanent. Return it under its owner's control at the next end step.",
    "Search your library for a basic land card, put it onto the battlefield tapped, then shuffle.",
)
FLAVOURS = (
    "“We named the stars so that they would answer.”",
    "It was old when the mountains were gravel.",
    "“Count your steps. The dark does.”",
    "No map agrees about what lies beyond.",
    "“I have buried three kings and mourned none.”",
    "The tide keeps what it is given, and a little more.",
    "Every door in the city locks from the outside.",
    "No.",
    "“They will tell you that the sea took our ships. The sea took nothing. We gave it every plank, and it thanked us "
    "with silence.” —The harbour master's last report",
    "What the fire wants it has already.",
    "“Again,” said the teacher, and the mountain rose a little higher.",
    "“Ask it nothing. It remembers the question.”",
)
# What translated cards print: name, type line, text. Scryfall's `name` stays English.
TRANSLATIONS = (
    ("de", "Wächterin der Öde", "Kreatur — Mensch, Ritter", "Fliegend, Wachsamkeit. Ziehe eine Karte für jede Öde."),
    ("fr", "Gardien des brumes", "Créature : esprit", "Vol. Quand le Gardien meurt, piochez une carte dès l'aube."),
    ("es", "Dragón del páramo", "Criatura — Dragón", "Vuela, prisa. El Dragón hace 2 puntos de daño a cada jugador."),
    ("it", "La più antica fenice", "Creatura — Fenice", "Volare. Quando muore, torna in mano: così è, così sarà."),
    ("pt", "Coração da montanha", "Criatura — Gólem", "Atropelar. Não pode ser alvo de mágicas até a próxima estação."),
    ("de", "Glutschlange", "Kreatur — Schlange", "Eile. Verursacht jedem Spieler zwei Schadenspunkte."),
    ("fr", "Forêt éternelle", "Créature : sylvin", "Piétinement. Ajoutez deux manas à votre réserve."),
    ("es", "Cazador de sueños", "Criatura — Mago", "Roba una carta. Después, descarta la carta más pequeña."),
)


@dataclass(frozen=True, slots=True)
class CardSet:
    """An invented set, with the frame of its day."""

    code: str
    name: str
    frame: str  # as Scryfall has it: 1993, 1997, 2003, 2015, future
    border: str
    released: str
    size: int = 249  # of its numbered cards, as printed after the number from 1998 to 2022


SETS = (
    CardSet("dwa", "Drawn Beginnings", "1993", "black", "1993-08-05"),
    CardSet("dwb", "Drawn Unlimited", "1993", "white", "1993-12-01"),
    CardSet("dwc", "Drawn Tides", "1997", "black", "1998-10-12", 335),
    CardSet("dwd", "Drawn Eighth", "2003", "white", "2003-07-28", 350),
    CardSet("dwe", "Drawn Shards", "2003", "black", "2008-10-03"),
    CardSet("dwf", "Drawn Horizons", "2015", "black", "2021-06-18", 303),
    CardSet("dwg", "Drawn Legends", "2015", "black", "2026-02-06", 281),
)
NEWEST = SETS[-1]
ODD_SETS = (
    CardSet("dwh", "Drawn Out of Time", "future", "black", "2007-05-04", 180),
    CardSet("dwi", "Drawn Unhinged", "2003", "silver", "2004-11-19", 140),
    CardSet("dwj", "Drawn Championships", "1997", "gold", "1999-08-04", 87),
    CardSet("dwk", "Drawn Remastered", "2015", "white", "2024-03-22", 402),
)
ALL_SETS, SET_SHARES = SETS + ODD_SETS, (9, 5, 10, 6, 12, 18, 18, 4, 4, 3, 4)
SHOWCASES = ("glass", "parchment", "ink", "deco", "comic", "retro", "neon", "storybook")
# how else than in its set's frame a card may be printed -> what Scryfall says of it
TREATMENTS: dict[str, dict[str, Any]] = {
    "": {},
    "borderless": {"border_color": "borderless"},
    "extendedart": {"frame_effects": ["extendedart"]},
    "fullart": {"full_art": True},
    **{effect: {"frame_effects": [effect]} for effect in ("snow", "devoid", "nyxtouched")},
    **{kind: {"frame_effects": ["showcase"]} for kind in SHOWCASES},
}


@dataclass(frozen=True, slots=True)
class Side:
    """What is printed on a side of a card, or on a part of one."""

    name: str
    type_line: str
    text: str = ""
    mana_cost: str = ""
    flavour: str = ""
    colours: str = ""  # letters of WUBRG
    power_toughness: str = ""  # or loyalty
    subject: str = ""  # what is painted; without one, a pattern
    mood: str = "day"
    art_seed: int = 0
    artist: str = ""
    printed: tuple[str, str, str] | None = None  # name, type line and text in another language

    def renamed(self, name: str) -> "Side":
        """The same side under another name, also in its text."""
        return replace(self, name=name, text=self.text.replace(self.name.split(",")[0], name))

    @property
    def illustration_id(self) -> str:
        """The same for all printings with this art."""
        return _uuid(f"art {self.art_seed} {self.subject}")

    @property
    def shown(self) -> tuple[str, str, str]:
        """Name, type line and text as printed."""
        return self.printed or (self.name, self.type_line, self.text)


@dataclass(frozen=True, slots=True)
class Card:
    """A card with its sides (two pictures) or parts (one picture), and where it was printed."""

    id: str
    oracle_id: str
    layout: str
    sides: tuple[Side, ...]
    set: CardSet
    collector_number: str
    rarity: str = "common"
    lang: str = "en"
    treatment: str = ""  # of TREATMENTS
    foil: bool = False
    pictures: int = 1  # how many pictures it has: 0, 1, or one for each side
    image_status: str = "highres_scan"
    lost: bool = False  # listed with URLs that answer 404
    games: tuple[str, ...] = ("paper", "mtgo")
    more: dict[str, Any] = field(default_factory=dict)

    look: str = ""  # id of the printing whose frame this one has, down to its shades and grain; "": its own

    @property
    def name(self) -> str:
        """As Scryfall has it: all its sides or parts."""
        return " // ".join(side.name for side in self.sides)


def make_catalogue(count: int, seed: int, reprints: int = 0) -> list[Card]:
    """The first `count` cards of the catalogue of `seed`, and so many reprints; a larger one begins with the same.

    Every plain card gets one reprint before any gets two.
    """
    maker = _Maker(seed)
    specials = itertools.cycle(_SPECIALS)
    cards: list[Card] = []
    for i in range(count):
        make = next(specials) if i % SPECIAL_EVERY == SPECIAL_EVERY - 1 else _plain
        cards.append(make(maker, cards))
    return cards + _reprints(maker, cards, reprints)


def _reprints(maker: "_Maker", cards: list[Card], count: int) -> list[Card]:
    """Further printings of the plain ones of `cards`, of three kinds in turn."""
    kinds = (_twin, _again_of, _with_other_art)
    plain = [card for card in _scanned(cards) if "paper" in card.games]
    rounds = (divmod(i, len(plain)) for i in range(count))
    return [kinds[(place + round_) % len(kinds)](maker, plain[place]) for round_, place in rounds]


def card_object(card: Card, picture_of: Callable[[int], str | None]) -> dict[str, Any]:
    """`card` as Scryfall lists it, with `picture` (of the side with that index) in place of `image_uris`."""
    own_pictures = card.pictures > 1
    faces = [_face_object(side) for side in card.sides]
    common = {
        "object": "card",
        "id": card.id,
        "oracle_id": card.oracle_id,
        "name": card.name,
        "lang": card.lang,
        "released_at": card.set.released,
        "scryfall_uri": f"https://scryfall.com/card/{card.set.code}/{card.collector_number}",
        "layout": card.layout,
        "image_status": card.image_status,
        "set": card.set.code,
        "set_name": card.set.name,
        "collector_number": card.collector_number,
        "rarity": card.rarity,
        "frame": card.set.frame,
        "border_color": card.set.border,
        "full_art": card.layout == "art_series",
        "promo": False,
        "variation": False,
        "finishes": ["foil" if card.foil else "nonfoil"],
        "games": list(card.games),
        "digital": "paper" not in card.games,
        "artist": card.sides[0].artist,
        **TREATMENTS[card.treatment],
        **card.more,
    }
    if own_pictures:
        for i, face in enumerate(faces):
            face["picture"] = picture_of(i)
    if card.layout == "reversible_card":  # the sides are cards of their own: the card itself has neither of these
        for face in faces:
            face |= {"oracle_id": card.oracle_id, "layout": "normal"}
        del common["oracle_id"]
    elif len(faces) == 1:
        return common | faces[0] | {"object": "card"} | _picture(card, picture_of)
    else:
        common["type_line"] = " // ".join(side.type_line for side in card.sides)
        common["colors"] = [c for c in COLOURS if any(c in side.colours for side in card.sides)]
    return common | {"card_faces": faces} | ({} if own_pictures else _picture(card, picture_of))


def _picture(card: Card, picture_of: Callable[[int], str | None]) -> dict[str, Any]:
    if card.image_status == "missing":
        return {"image_uris": {"normal": "https://errors.scryfall.com/soon.jpg"}}
    return {"picture": picture_of(0)} if card.pictures else {}


def _face_object(side: Side) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "object": "card_face",
        "name": side.name,
        "mana_cost": side.mana_cost,
        "type_line": side.type_line,
        "oracle_text": side.text,
        "colors": list(side.colours),
        "artist": side.artist,
        "illustration_id": side.illustration_id,
    }
    if "/" in side.power_toughness:
        fields["power"], fields["toughness"] = side.power_toughness.split("/")
    elif side.power_toughness:
        fields["loyalty"] = side.power_toughness
    if side.printed:
        fields |= dict(zip(("printed_name", "printed_type_line", "printed_text"), side.printed, strict=True))
    return fields


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


# ------------------------------------------------------------------------------------------------------ plain cards


class _Maker:
    """Makes up names, numbers and whole sides from a seed; no name comes twice."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._names: set[str] = set()
        self._numbers: dict[str, Iterator[int]] = {}
        self._translations = itertools.cycle(TRANSLATIONS)

    def number(self, card_set: CardSet) -> str:
        return str(next(self._numbers.setdefault(card_set.code, itertools.count(1))))

    def id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def translation(self) -> tuple[str, str, str, str]:
        return next(self._translations)

    def name(self, colour: str, noun: str, *, legendary: bool = False) -> str:
        """A new name."""
        choose = self.rng.choice
        for _ in range(200):
            word, given, place = choose(WORDS_OF_COLOUR[colour]), choose(GIVEN_NAMES), choose(PLACES)
            patterns = [f"{word} {noun}", f"{noun} of {place}", f"{word} {given}'s {noun}", f"{given}'s {noun}"]
            patterns += [f"{choose(STEMS)}{noun.lower()}", f"{choose(STEMS)}-{choose(STEMS)} {noun}"]
            patterns += [f"{word} {noun} of {place}"]
            if legendary:
                patterns = [f"{given}, {word} {noun}", f"{given}, {noun} of {place}", f"{given} the {word}"]
            name = choose(patterns)
            if name not in self._names:
                self._names.add(name)
                return name
        raise ValueError("the names have run out")

    def treatment(self, card_set: CardSet) -> str:
        """How a card of that set is printed; older sets hardly know treatments."""
        if self.rng.random() > (0.55 if card_set.frame == "2015" else 0.12):
            return ""
        return self.rng.choice(list(TREATMENTS))

    def side(self, kind: str = "", colours: str | None = None) -> Side:
        """A side of `kind` (creature, artifact, spell, enchantment, land; random if empty)."""
        rng = self.rng
        kind = kind or rng.choices(("creature", "spell", "artifact", "enchantment", "land", "walker"), KIND_SHARES)[0]
        if colours is None:
            count = 0 if kind in ("artifact", "land") else rng.choices((1, 2, 3), (16, 4, 1))[0]
            colours = "".join(rng.sample(COLOURS, count))
        colours = "".join(sorted(colours, key=COLOURS.index))
        first = colours[:1]
        legendary = kind == "walker" or (kind == "creature" and rng.random() < 0.2)
        subjects = {"creature": CREATURES, "walker": CREATURES, "artifact": THINGS, "land": LAND_NAMES}.get(
            kind, SPELLS
        )
        noun = rng.choice(list(subjects))
        vehicle = subjects[noun] == "ship"
        name = self.name(first, noun, legendary=legendary)
        type_line = {
            "creature": f"{'Legendary ' * legendary}Creature — {rng.choice(PEOPLES)}{noun}",
            "artifact": f"Artifact{' — Vehicle' if vehicle else ' — Equipment' * (subjects[noun] == 'blade')}",
            "spell": rng.choice(("Instant", "Sorcery")),
            "enchantment": f"Enchantment{' — Aura' * rng.getrandbits(1)}",
            "land": "Land",
            "walker": f"Legendary Planeswalker — {name.split(',')[0].split()[0]}",
        }[kind]
        power = f"{rng.randint(0, 15 if noun == 'Behemoth' else 7)}/{rng.randint(1, 8)}"
        power = str(rng.randint(2, 7)) if kind == "walker" else power if kind == "creature" or vehicle else ""
        return Side(
            name=name,
            type_line=type_line,
            text=self._text(kind, name.split(",")[0]),
            mana_cost="" if kind == "land" else self._cost(colours),
            flavour=rng.choice(FLAVOURS) if kind != "walker" and rng.random() < 0.55 else "",
            colours=colours,
            power_toughness=power,
            subject=subjects[noun] if rng.random() > PATTERN_SHARE else "",
            mood=rng.choice(MOODS_OF_COLOUR[first if rng.random() < 0.6 else rng.choice(COLOURS)]),
            art_seed=rng.getrandbits(32),
            artist=rng.choice(ARTISTS),
        )

    def _cost(self, colours: str) -> str:
        """A cost as short as {1} or as long as {X}{3}{W}{W}{U}{U}."""
        rng = self.rng
        generic = [rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10))] if rng.random() < 0.8 or not colours else []
        symbols = [
            *(["X"] if rng.random() < 0.06 else []),
            *generic,
            *"".join(c * rng.choice((1, 1, 2, 3)) for c in colours),
        ]
        return "".join(f"{{{symbol}}}" for symbol in symbols)

    def _text(self, kind: str, me: str) -> str:
        """From no word at all to a dozen lines."""
        rng = self.rng
        own = [*ABILITIES, *(rng.choice(EVENTS) + rng.choice(OUTCOMES) for _ in range(len(ABILITIES)))]
        if kind == "spell":
            lines = rng.sample((*EFFECTS, *OUTCOMES), rng.choice((1, 1, 2, 3)))
        elif kind == "land":
            lines = [f"{{T}}: Add {{{rng.choice(COLOURS)}}}.", *rng.sample(own, rng.choice((0, 0, 1, 2)))]
        elif kind == "walker":
            lines = [f"{loyalty}: {rng.choice(EFFECTS + ABILITIES)}" for loyalty in ("+1", "−2", "−7")]
            lines += [rng.choice(own)] * rng.getrandbits(1)
        else:
            keywords = ", ".join(rng.sample(KEYWORDS, rng.choice((1, 1, 2, 3)))) if kind == "creature" else ""
            bare = (0, 0, 1, 1, 2, 3, 4) if keywords else (1, 1, 2, 3)
            lines = [*filter(None, [keywords]), *rng.sample(own, rng.choice(bare))]
            if kind == "creature" and rng.random() < 0.1:
                lines = []
        return "\n".join(line[0].upper() + line[1:] for line in lines).replace("{me}", me).replace("{Me}", me)

    def card(self, layout: str, *sides: Side, card_set: CardSet | None = None, **more: Any) -> Card:
        """A card of these sides, newly printed."""
        card_set = card_set or self.rng.choices(ALL_SETS, SET_SHARES)[0]
        return Card(
            id=self.id(),
            oracle_id=_uuid("rules " + sides[0].name),
            layout=layout,
            sides=sides,
            set=card_set,
            collector_number=self.number(card_set),
            rarity=self.rng.choice(("common", "common", "uncommon", "rare", "mythic")),
            foil=self.rng.random() < FOIL_SHARE,
            **more,
        )


def _plain(maker: _Maker, before: list[Card]) -> Card:
    games = ("arena",) if len(before) % DIGITAL_EVERY == DIGITAL_EVERY - 2 else ("paper", "mtgo")
    card = maker.card("normal", maker.side(), games=games)
    return replace(card, treatment=maker.treatment(card.set))


# ---------------------------------------------------------------------------------------------- everything but plain


def _two_sided(layout: str) -> Callable[[_Maker, list[Card]], Card]:
    def make(maker: _Maker, _before: list[Card]) -> Card:
        front = maker.side("creature" if layout == "transform" else "")
        back = maker.side("creature" if layout == "transform" else "", front.colours or None)
        if layout == "transform":
            back = replace(back, mana_cost="")
        return maker.card(layout, front, back, card_set=maker.rng.choice(SETS[4:]), pictures=2)

    return make


def _parts(layout: str, second_type: str) -> Callable[[_Maker, list[Card]], Card]:
    """Two parts that share one picture."""

    def make(maker: _Maker, _before: list[Card]) -> Card:
        kind = "spell" if layout == "split" else "creature"
        one = maker.side(kind)
        other = maker.side(kind if layout in ("split", "flip") else "spell", one.colours)
        other = replace(
            other, type_line=second_type or other.type_line, mana_cost="" if layout == "flip" else other.mana_cost
        )
        sets = {"split": SETS[2:], "flip": SETS[4:5]}.get(layout, SETS[4:])
        return maker.card(layout, one, other, card_set=maker.rng.choice(sets))

    return make


def _meld(maker: _Maker, before: list[Card]) -> Card:
    """A meld card: Scryfall lists parts and result as cards of one face each."""
    role = ("meld_part", "meld_part", "meld_result")[sum(card.layout == "meld" for card in before) % 3]
    side = maker.side("creature", "W" if role == "meld_result" else None)
    card = maker.card("meld", side, card_set=NEWEST)
    parts = [{"object": "related_card", "id": card.id, "component": role, "name": side.name}]
    return replace(card, more={"all_parts": parts}, treatment="extendedart" if role == "meld_result" else "")


def _token(maker: _Maker, _before: list[Card]) -> Card:
    side = maker.side("creature")
    noun = side.type_line.rpartition(" ")[2]
    token_set = replace(NEWEST, code="t" + NEWEST.code, name=NEWEST.name + " Tokens")
    side = side.renamed(noun)
    return maker.card(
        "token", replace(side, type_line=f"Token Creature — {noun}", mana_cost="", flavour=""), card_set=token_set
    )


def _emblem(maker: _Maker, _before: list[Card]) -> Card:
    side = maker.side("enchantment", "").renamed(
        f"{maker.rng.choice(GIVEN_NAMES)} of {maker.rng.choice(PLACES)} Emblem"
    )
    return maker.card("emblem", replace(side, type_line="Emblem", mana_cost="", subject="runes"), card_set=NEWEST)


def _double_faced_token(maker: _Maker, before: list[Card]) -> Card:
    sides = (_token(maker, before).sides[0], _token(maker, before).sides[0])
    return maker.card("double_faced_token", *sides, card_set=NEWEST, pictures=2)


def _art_series(maker: _Maker, _before: list[Card]) -> Card:
    art = replace(
        maker.side("creature"), type_line="Card", text="", mana_cost="", flavour="", power_toughness="", colours=""
    )
    art_set = replace(NEWEST, code="a" + NEWEST.code, name=NEWEST.name + " Art Series")
    back = replace(
        art, art_seed=maker.rng.getrandbits(32)
    )  # only text is printed there; Scryfall gives it an id of its own
    return maker.card("art_series", art, back, card_set=art_set, pictures=2)


def _reversible(maker: _Maker, _before: list[Card]) -> Card:
    """The same card on both sides, with two pieces of art."""
    side = maker.side("creature")
    other = replace(side, art_seed=maker.rng.getrandbits(32), mood=maker.rng.choice(MOODS_OF_COLOUR[side.colours[0]]))
    return maker.card("reversible_card", side, other, card_set=NEWEST, treatment="borderless", pictures=2)


def _one(layout: str, kind: str, type_line: str) -> Callable[[_Maker, list[Card]], Card]:
    """A card of one face in a layout of its own."""

    def make(maker: _Maker, _before: list[Card]) -> Card:
        return maker.card(layout, replace(maker.side(kind), type_line=type_line), card_set=NEWEST)

    return make


def _scanned(before: list[Card]) -> list[Card]:
    """The plain English cards so far that have a picture."""
    there = (card for card in before if card.layout == "normal" and card.lang == "en" and card.pictures)
    return [card for card in there if card.image_status == "highres_scan" and not card.lost]


def _again(maker: _Maker, before: list[Card]) -> Card:
    """A reprint: the same card and art in the frame of another set."""
    return _again_of(maker, maker.rng.choice(_scanned(before)))


def _again_of(maker: _Maker, old: Card) -> Card:
    """`old` in the frame of another set, with the same art."""
    card_set = maker.rng.choice([other for other in ALL_SETS if other.frame != old.set.frame])
    treatment, foil = maker.treatment(card_set), maker.rng.random() < FOIL_SHARE
    number = maker.number(card_set)
    return replace(old, id=maker.id(), set=card_set, collector_number=number, treatment=treatment, foil=foil)


def _twin(maker: _Maker, old: Card) -> Card:
    """`old` in another set and else the same: only its collector line and set symbol tell them apart."""
    code, name = "dx" + old.set.code[-1], old.set.name + " Again"
    card_set = replace(old.set, code=code, name=name, size=old.set.size + 8)
    return replace(old, id=maker.id(), set=card_set, collector_number=maker.number(card_set), look=old.look or old.id)


def _with_other_art(maker: _Maker, old: Card) -> Card:
    """`old` with new art, in any set."""
    side = replace(old.sides[0], art_seed=maker.rng.getrandbits(32), artist=maker.rng.choice(ARTISTS))
    return replace(maker.card("normal", side), treatment=old.treatment)


def _translated(maker: _Maker, before: list[Card]) -> Card:
    """A creature in another language: another picture, the same art, set and number."""
    translated = {card.oracle_id for card in before if card.lang != "en"}
    creatures = (
        card for card in _scanned(before) if card.sides[0].power_toughness and card.oracle_id not in translated
    )
    old = next(creatures, None) or maker.card("normal", maker.side("creature"))  # that one is in no other language
    lang, *printed = maker.translation()
    side = replace(old.sides[0], printed=(printed[0], printed[1], printed[2]))
    return replace(old, id=maker.id(), lang=lang, sides=(side,))


def _special_frame(treatment: str) -> Callable[[_Maker, list[Card]], Card]:
    def make(maker: _Maker, _before: list[Card]) -> Card:
        return maker.card("normal", maker.side("creature"), card_set=NEWEST, treatment=treatment)

    return make


def _basic_land(maker: _Maker, before: list[Card]) -> Card:
    colour = COLOURS[len(before) % 5]
    name, subject = BASIC_LANDS[colour]
    side = replace(
        maker.side("land"), name=name, type_line=f"Basic Land — {name}", text="", flavour="", subject=subject
    )
    card = maker.card("normal", replace(side, mood=maker.rng.choice(MOODS_OF_COLOUR[colour])))
    return replace(card, treatment=maker.rng.choice(("", "", "fullart", "snow", maker.treatment(card.set))))


def _without_scan(image_status: str, pictures: int) -> Callable[[_Maker, list[Card]], Card]:
    """Announced, but without a picture yet."""

    def make(maker: _Maker, _before: list[Card]) -> Card:
        card = maker.card("normal", maker.side(), card_set=NEWEST, image_status=image_status)
        return replace(card, pictures=pictures)

    return make


def _lost(maker: _Maker, _before: list[Card]) -> Card:
    return maker.card("normal", maker.side(), card_set=NEWEST, lost=True)


# In the order of their first appearance: whoever draws a dozen cards gets the first four.
_SPECIALS: tuple[Callable[[_Maker, list[Card]], Card], ...] = (
    _two_sided("transform"),
    _parts("split", ""),
    _parts("adventure", "Sorcery — Adventure"),
    _token,
    _again,
    _translated,
    _two_sided("modal_dfc"),
    _special_frame("borderless"),
    _basic_land,
    _parts("flip", ""),
    _again,
    _meld,
    _art_series,
    _translated,
    _again,
    _reversible,
    _basic_land,
    _one("saga", "enchantment", "Enchantment — Saga"),
    _double_faced_token,
    _meld,
    _again,
    _one("planar", "land", "Plane — Vael"),
    _special_frame("extendedart"),
    _two_sided("transform"),
    _again,
    _emblem,
    _meld,
    _one("kaleidoscope", "creature", "Creature — Prism"),  # an unknown layout
    _without_scan("placeholder", 1),
    _translated,
    _without_scan("missing", 1),
    _without_scan("highres_scan", 0),
    _lost,
    _again,
    _parts("prepare", "Instant"),
    _token,
    _two_sided("modal_dfc"),
    _one("class", "enchantment", "Enchantment — Class"),
    _again,
    _special_frame("borderless"),
    _one("leveler", "creature", "Creature — Adept"),
)

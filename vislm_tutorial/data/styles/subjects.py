"""Which OpenMoji drawings show a thing with a name of its own, and how English speaks of it."""

from __future__ import annotations

import re

from ..openmoji import Drawing

# Unicode keeps animals, plants, food, buildings, vehicles and objects in these ranges.
_RANGES = (
    (0x1F300, 0x1F393),  # weather, plants, food, feasts
    (0x1F399, 0x1F3FA),  # music, sport, buildings
    (0x1F400, 0x1F43F),  # animals
    (0x1F451, 0x1F462),  # clothes
    (0x1F484, 0x1F4F9),  # objects
    (0x1F4FA, 0x1F4FF),
    (0x1F50B, 0x1F518),  # tools
    (0x1F525, 0x1F52F),
    (0x1F54A, 0x1F54E),
    (0x1F56F, 0x1F5FF),  # office
    (0x1F680, 0x1F6FC),  # vehicles, household
    (0x1F90C, 0x1F9FF),  # food and animals again, clothes
    (0x1FA70, 0x1FAEF),
)
_SINGLE = "⌨☀☁☃☄☎☕☘♟⚒⚓⚔⚖⚗⚙⚰⚱⚽⚾⛄⛏⛑⛓⛩⛪⛰⛱⛲⛴⛵⛸⛺⛽✂✈✉✏✒❄⭐⏰⌛"
# A style gives its own colours, so a name must not: without these words the name says enough.
_RENAMED = {
    "red apple": "apple",
    "red paper lantern": "paper lantern",
    "red heart": "heart",
    "automobile": "car",
}
_COLOUR_WORDS = set("white black red green blue orange yellow purple brown grey pink light".split())
# Signs, scenes, body parts, people, and drawings that look like another subject in some style.
_LEFT_OUT = """
    1st place medal; 2nd place medal; 3rd place medal; Statue of Liberty; Tokyo tower; ZZZ;
    airplane arrival; airplane departure; anatomical heart; anger symbol; antenna bars; baby
    symbol; badminton; baggage claim; bar chart; beach with umbrella; beating heart; bell with
    slash; bikini; bookmark tabs; bowling; brain; bridge at night; briefs; broken heart; bubbles;
    building construction; bullseye; bus stop; calendar; camping; card index; chart decreasing;
    chart increasing; chequered flag; children crossing; cinema; cityscape at dusk; clinking beer
    mugs; clinking glasses; collision; computer disk; construction; control knobs; cooking;
    cricket game; crossed flags; currency exchange; cyclone; dashing away; desert; dizzy; dotted
    six-pointed star; drop of blood; dvd; e-mail; elevator; envelope with arrow; field hockey;
    fight cloud; file cabinet; film frames; fingerprint; fireworks; first quarter moon; flower
    playing cards; fog; foggy; front-facing baby chick; genie; globe with meridians; growing
    heart; guide dog; hairy creature; hatching chick; heart decoration; heart with arrow; heart
    with ribbon; heavy dollar sign; hole; hourglass done; hundred points; ice hockey;
    identification card; inbox tray; incoming envelope; kaaba; khanda; kiss mark; lacrosse;
    landslide; last quarter moon; left luggage; left speech bubble; level slider; link; locked
    with key; locked with pen; loudspeaker; low battery; lungs; map of Japan; mate; mechanical
    arm; mechanical leg; menorah; men's room; microbe; milky way; mobile phone off; money with
    wings; moon viewing ceremony; motorway; mount fuji; mountain cableway; musical note; musical
    notes; musical score; name badge; national park; nazar amulet; new moon; night with stars; no
    bicycles; no littering; no mobile phones; no pedestrians; no smoking; non-potable water;
    oncoming automobile; oncoming bus; oncoming police car; oncoming taxi; optical disk; outbox
    tray; page facing up; pager; performing arts; pile of poo; ping pong; placard; place of
    worship; potable water; pouring liquid; prohibited; railway track; restroom; revolving hearts;
    right anger bubble; safety vest; sewing needle; snowman without snow; softball; sparkler;
    sparkling heart; speaking head; speech balloon; spiral calendar; splatter; sports medal;
    station; studio microphone; sunrise; sunrise over mountains; sunset; sweat droplets; tanabata
    tree; tennis; thought balloon; troll; two-hump camel; two hearts; vibration mode; waning
    crescent moon; waning gibbous moon; water closet; water wave; waxing crescent moon; waxing
    gibbous moon; wing; wireless; women's room; x-ray; zombie; star-struck; exploding head; biting
    lip; globe showing Europe-Africa; globe showing Americas; globe showing Asia-Australia;
    locked; unlocked; ATM sign;
    pound banknote; euro banknote; yen banknote; falafel; empty nest; pool 8 ball; volleyball;
    soccer ball; notebook; ledger; police car; taxi; bento box; wheel; wedding; full moon;
    videocassette
"""
_NAMES_LEFT_OUT = frozenset(" ".join(name.split()) for name in _LEFT_OUT.split(";"))
_SKIN = re.compile(r'id="skin[^"]*"[^>/]*>\s*<[a-z]')  # a group of skin that holds something
_FACE_WORDS = {"man", "woman", "person", "people", "face:", "hand", "hands", "fist", "button"}
# Nouns that take no article, though they stand in the singular.
_UNCOUNTED = set(
    """
    bacon bread broccoli butter coral cream custard dango dna fire fondue food garlic ice
    luggage meat oden popcorn rice sake salt soap spaghetti sushi tea thread wood yarn
    """.split()
)
# The first of these words ends the part of a name that carries the number: "glass of milk".
_HEAD_ENDS = (" of ", " with ", " without ", " on ", " and ")
_VOWEL_BUT_A = ("uni", "eu", "ewe", "one")  # written with a vowel, spoken with a consonant


def is_subject(drawing: Drawing) -> bool:
    """Whether the drawing shows a nameable thing: no sign, flag, face, body part or person."""
    signs = drawing.emoji.replace("\ufe0f", "")
    name = drawing.caption
    if len(signs) != 1 or len(name.split()) > 3 or name in _NAMES_LEFT_OUT:
        return False
    if signs not in _SINGLE and not any(low <= ord(signs) <= high for low, high in _RANGES):
        return False
    words = set(name.lower().split())
    if name not in _RENAMED and words & _COLOUR_WORDS:
        return False
    if "face" in words and not 0x1F400 <= ord(signs) <= 0x1F43F:
        return False
    return not words & _FACE_WORDS and not _SKIN.search(drawing.path.read_text(encoding="utf-8"))


def subject_name(name: str) -> str:
    """Unicode's name in lower case, without a colour: "red apple" -> "apple"."""
    return _RENAMED.get(name, name).lower()


def said(subject: str) -> str:
    """A subject with the article that English gives it: "an owl", "a ewe", "grapes", "bread"."""
    head = subject
    for end in _HEAD_ENDS:
        head = head.split(end)[0]
    noun = head.split()[-1]
    plural = noun.endswith("s") and not noun.endswith(("ss", "us", "ceros"))
    if plural or noun in _UNCOUNTED:
        return subject
    vowel = subject[0] in "aeiou" and not subject.startswith(_VOWEL_BUT_A)
    return f"{'an' if vowel else 'a'} {subject}"

"""Fields that a corpus does not cover, found by retrieval: what questions outside the papers are about.

No field is outside every corpus: a folder of papers may be about cooking or about computing. So each of many fields
has a few words that a text on it would use, and the fields are ranked by how many of them one passage holds.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

from mlx_ragtune.retrieval.terms import STOP_WORDS, terms
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.synthesis.visible_corpus import Retriever

FIELDS: Mapping[str, str] = {
    "bread baking": "dough yeast flour sourdough oven loaf",
    "football": "goalkeeper penalty striker league referee offside",
    "medieval history": "knight castle feudal crusade monastery plague",
    "gardening": "compost pruning seedling tomato mulch soil",
    "car repair": "brake clutch gearbox exhaust garage tire",
    "opera": "soprano aria libretto conductor overture tenor",
    "income tax": "deduction taxpayer refund allowance income audit",
    "astronomy": "galaxy telescope star orbit supernova planet",
    "chess": "rook bishop checkmate opening pawn endgame",
    "weather forecasts": "rain storm humidity forecast front wind",
    "dog training": "puppy leash obedience breed treat bark",
    "oil painting": "canvas brush pigment varnish portrait easel",
    "wine": "grape vineyard tannin vintage cellar cork",
    "first aid": "bandage wound tourniquet fracture bleeding splint",
    "airline travel": "boarding luggage runway airport flight passenger",
    "knitting": "yarn needle stitch wool sweater crochet",
    "dinosaurs": "fossil jurassic carnivore skeleton cretaceous extinction",
    "poetry": "stanza rhyme sonnet meter verse poet",
    "mortgages": "lender borrower deposit repayment interest house",
    "silent film": "camera reel actor director studio screen",
    "coral reefs": "coral reef bleaching fish ocean lagoon",
    "gothic architecture": "cathedral vault buttress nave spire arch",
    "fashion": "fabric dress designer runway tailor collection",
    "mountaineering": "summit glacier rope avalanche climber altitude",
    "nutrition": "vitamin protein diet calorie fiber mineral",
    "railways": "locomotive track station signal carriage gauge",
    "Greek mythology": "zeus hero oracle titan temple nymph",
    "photography": "aperture shutter lens exposure tripod film",
    "beekeeping": "hive honey queen swarm nectar pollen",
    "volcanoes": "lava eruption magma crater ash basalt",
    "the Olympic games": "medal athlete stadium torch sprint ceremony",
    "English grammar": "noun verb tense adjective clause plural",
    "home insurance": "premium policy claim damage burglary coverage",
    "jazz": "saxophone improvisation swing trumpet blues quartet",
    "house plants": "leaf pot watering fern cactus root",
    "sailing": "mast rudder sail harbor knot keel",
    "coffee": "espresso bean roast brew barista grinder",
    "ancient Rome": "emperor senate legion gladiator aqueduct consul",
    "horse riding": "saddle bridle stable gallop jockey hoof",
    "carpentry": "chisel plank saw joint plywood nail",
    "sleep": "insomnia dream pillow snoring circadian nap",
    "bicycles": "pedal chain spoke handlebar derailleur saddle",
    "contract law": "plaintiff breach clause court liability tort",
    "elections": "ballot voter candidate parliament turnout campaign",
    "earthquakes": "fault seismic magnitude tremor epicenter tsunami",
    "childbirth": "midwife pregnancy labor fetus delivery newborn",
    "dentistry": "tooth cavity gum filling enamel crown",
    "cheese making": "rennet curd milk whey ripening cheddar",
    "bird watching": "feather nest migration beak plumage warbler",
    "pottery": "clay kiln glaze wheel ceramic vase",
    "road traffic": "driver lane intersection pedestrian congestion speed",
    "stage magic": "trick illusion card wand audience magician",
    "swimming": "pool stroke freestyle lane breath butterfly",
    "the French Revolution": "bastille guillotine republic king assembly jacobin",
    "quantum mechanics": "electron photon entanglement wave spin particle",
    "organic chemistry": "carbon reaction benzene catalyst ester solvent",
    "cell biology": "mitochondria membrane nucleus protein enzyme chromosome",
    "number theory": "prime integer divisor conjecture modular theorem",
    "computer graphics": "shader texture polygon rendering pixel triangle",
    "operating systems": "kernel thread scheduler process filesystem interrupt",
    "databases": "transaction index query table relational sql",
    "machine translation": "translation sentence bilingual corpus decoder bleu",
    "robotics": "robot gripper actuator sensor arm locomotion",
    "cryptography": "cipher encryption key signature hash plaintext",
}
"""Field → six words that a text on it is likely to use."""
COVERED = 0.5
"""A field is covered when one passage holds this share of its words."""
LOOKED_AT = 5
"""Passages that are looked at for each field."""
NEAR_TERMS, NEAR_SHARE = 3, 0.6
CLOSE = "off-corpus question that the papers may answer"
_STEM = 5


def coverage(field: str, told_by: str, retriever: Retriever) -> float:
    """How far the corpus covers a field: the largest share of its words in one passage, from 0 to 1.

    Words are compared by their first five letters. A passage that holds the field's name covers it.
    """
    stems = {word[:_STEM] for word in words(fold(told_by))}
    name = re.compile(rf"\b{re.escape(fold(field).removeprefix('the '))}\b")
    best = 0.0
    for passage in retriever.search(f"{field} {told_by}", LOOKED_AT):
        text = fold(f"{passage.title}\n{passage.text}")
        if name.search(text):
            return 1.0
        best = max(best, len(stems & {word[:_STEM] for word in words(text)}) / len(stems))
    return best


def off_corpus_fields(
    retriever: Retriever, *, seed: int, fields: Mapping[str, str] = FIELDS, without: Iterable[str] = ()
) -> list[str]:
    """The fields that the corpus does not cover, the least covered first; those covered alike in a seeded order.

    ``without`` names fields to leave out. Empty when every field is covered, as by a general encyclopedia.
    """
    barred = set(without)
    found = {name: coverage(name, told_by, retriever) for name, told_by in fields.items() if name not in barred}
    outside = [name for name, share in found.items() if share < COVERED]
    return sorted(outside, key=lambda name: (found[name], hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()))


def is_near(question: str, retriever: Retriever) -> bool:
    """Whether one passage holds most of a question's content words: the corpus may answer it.

    Most means at least ``NEAR_TERMS`` different terms and ``NEAR_SHARE`` of all.
    """
    asked = {term for term in terms(question) if term not in STOP_WORDS and len(term) > 1}
    for passage in retriever.search(question, LOOKED_AT):
        held = asked & set(terms(f"{passage.title}\n{passage.text}"))
        if len(held) >= max(NEAR_TERMS, NEAR_SHARE * len(asked)):
            return True
    return False

"""Plain English sentences composed by a small grammar: the text of the mini world.

The text says nothing of feelings, so that the emotion of an utterance is in the voice alone.
Which split a sentence belongs to is decided by its own SHA-256, so the splits cannot overlap.
"""

import hashlib
import re

import numpy as np

from rrpo.errors import UserError

SLOTS: dict[str, tuple[str, ...]] = {
    name: tuple(option.strip() for option in " ".join(options.split()).split(","))
    for name, options in {
        "role": """teacher, driver, farmer, baker, doctor, nurse, painter, student, neighbor,
            gardener, waiter, cook, manager, pilot, sailor, writer, singer, lawyer, tailor,
            guide, librarian, engineer, visitor, carpenter, dentist, plumber, secretary,
            photographer""",
        "family": """sister, brother, mother, father, cousin, uncle, aunt, grandmother,
            daughter, son""",
        "own": "my, our, his, her, their, your",
        "name": """Anna, Peter, Maria, David, Laura, Thomas, Emma, Daniel, Helen, Martin, Sarah,
            Robert, Julia, Paul, Alice, Simon""",
        "someone": "the {role}, the {role}, the {role}, {own} {family}, {name}, the {adult}",
        "adult": "man, woman, boy, girl, lady",
        "people": """the children, the students, the workers, the farmers, the tourists, the
            guests, the players, the neighbors, my parents, our friends, the two boys, the girls""",
        "pronoun": "I, we, you, they, he, she",
        "plural": "I, we, you, they, {people}",
        "thing": """book, box, bag, lamp, clock, chair, basket, bottle, blanket, pillow, mirror,
            hammer, ladder, bucket, camera, letter, envelope, parcel, notebook, pencil,
            newspaper, magazine, umbrella, jacket, sweater, hat, glove, towel, kettle, candle,
            guitar, radio, suitcase, wallet, ticket, map, brush, rope, coin, key, button,
            calendar, folder, photograph, vase, tray, broom, toolbox, backpack""",
        "things": """books, boxes, bags, chairs, bottles, letters, keys, tickets, maps, plates,
            cups, spoons, forks, pencils, shoes, socks, shirts, coats, flowers, papers, stamps,
            towels, candles, pictures, tools, bricks, baskets, glasses, cards, curtains""",
        "furniture": """table, desk, shelf, counter, bench, sofa, bed, drawer, cupboard, closet,
            window, door, cabinet, piano, fireplace, stove, fence, staircase""",
        "room": """kitchen, garden, hallway, bedroom, living room, bathroom, garage, basement,
            attic, office, classroom, dining room, workshop, balcony""",
        "place": """market, station, library, museum, bakery, park, school, hospital, airport,
            harbor, church, theater, post office, supermarket, bridge, river, lake, beach,
            forest, village, bank, hotel, restaurant, town hall, bus stop, farm, factory,
            university""",
        "city": """London, Boston, Paris, Rome, Berlin, Madrid, Chicago, Denver, Dublin, Vienna,
            Lisbon, Toronto""",
        "color": """red, blue, green, yellow, brown, white, black, gray, orange, purple, pink,
            silver""",
        "size": "small, large, big, little, long, short, tall, wide, narrow, round, square",
        "kind": """wooden, old, new, heavy, light, plain, empty, clean, dry, warm, cold, soft,
            thick, thin, metal, paper, plastic, cotton, leather, folded, simple""",
        "quality": "{color}, {color}, {size}, {kind}, {kind}",
        "food": """bread, soup, rice, cheese, fish, chicken, salad, pasta, cake, butter, honey,
            fruit, potatoes, onions, carrots, beans, tomatoes, apples, pears, oranges, eggs,
            cookies, breakfast, lunch, dinner""",
        "drink": "coffee, tea, milk, water, orange juice, lemonade, cocoa",
        "vehicle": """car, bus, truck, train, taxi, bicycle, van, boat, ferry, tractor,
            motorcycle, plane""",
        "number": """two, three, four, five, six, seven, eight, nine, ten, eleven, twelve,
            thirteen, fifteen, twenty, thirty, forty, fifty, sixty""",
        "ordinal": "first, second, third, fourth, fifth, sixth, last, next",
        "hour": "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve",
        "day": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
        "month": """January, February, March, April, May, June, July, August, September,
            October, November, December""",
        "season": "spring, summer, autumn, winter",
        "part": "morning, afternoon, evening",
        "clock": """{hour} o'clock, half past {hour}, quarter to {hour}, noon, midnight, {hour}
            thirty""",
        "when": """on {day}, at {clock}, at {clock}, in {month}, in the {part}, every {day},
            this {part}, on {day} {part}, yesterday, today, last week, after {meal}, before
            {meal}, every {part}, last {season}, twice a week, once a month""",
        "future": """tomorrow, next week, on {day}, at {clock}, in {month}, in an hour, next
            {season}, tomorrow {part}, in a few days, later today, after {meal}""",
        "meal": "breakfast, lunch, dinner, school, work, class",
        "where": """on the {furniture}, under the {furniture}, near the {furniture}, beside the
            {furniture}, behind the {furniture}, in the {room}, in the {room}, by the
            {furniture}, next to the {furniture}, in front of the {furniture}""",
        "spot": """near the {place}, behind the {place}, across from the {place}, next to the
            {place}, not far from the {place}, in front of the {place}""",
        "moved": "put, left, placed, found, kept, set",
        "bought": "bought, sold, ordered, borrowed, packed, brought, carried, picked, chose",
        "handled": "opened, closed, cleaned, moved, measured, painted, repaired, washed, covered",
        "went": "walked, drove, went, cycled, traveled, came, hurried, returned",
        "past": """talked about the {topic}, heard about the {topic}, learned about the {topic},
            wrote about the {topic}, asked about the {topic}""",
        "topic": """weather, news, schedule, meeting, project, budget, trip, history, lesson,
            recipe, garden, report, program, timetable, price, size of the room""",
        "document": "report, letter, list, message, form, page, note, plan, schedule, summary",
        "sky": "sunny, cloudy, windy, rainy, foggy, cool, warm, mild, dry, clear, snowy, freezing",
        "degree": "quite, fairly, rather, mostly, a little, very, partly",
        "animal": "cat, dog, horse, bird, cow, sheep, rabbit, duck, goat, squirrel",
        "rests": "sat, slept, waited, rested, stood, lay",
        "shape": "open, closed, locked, empty, full, clean, ready, dry, painted, covered",
        "material": "wood, glass, stone, paper, metal, cotton, wool, leather, clay, plastic",
        "unit": "minutes, hours, days, weeks, months, years",
        "measure": "miles, meters, pounds, pages, steps, dollars, feet, inches",
        "duty": """water the plants, feed the {animal}, sweep the floor, wash the dishes, send
            the {document}, call the {role}, lock the door, check the {document}, fold the
            towels, fill the kettle, close the window, print the {document}, set the table, buy
            some {food}, visit the {place}, turn off the lights, clean the {room}, sign the
            {document}, take the {vehicle}, drop off the {thing}""",
        "hobby": "chess, tennis, football, the piano, the violin, cards, basketball, the guitar",
        "event": "meeting, lesson, concert, class, show, lecture, game, course, exhibition, movie",
        "starts": "starts, begins, ends, opens, finishes",
        "instrument": "radio, computer, printer, telephone, heater, machine, washing machine, lamp",
    }.items()
}
"""What may stand for each name in braces; an option may itself hold names."""

TEMPLATES: tuple[str, ...] = (
    "{someone} {moved} the {quality} {thing} {where}.",
    "{someone} {moved} {number} {things} {where}.",
    "{pronoun} {moved} the {thing} {where}.",
    "{someone} {bought} a {quality} {thing} {when}.",
    "{pronoun} {bought} {number} {color} {things} {when}.",
    "{someone} {bought} some {food} at the {place}.",
    "{pronoun} {bought} the {things} and the {thing}.",
    "{someone} {handled} the {quality} {furniture} {when}.",
    "{pronoun} {handled} the {furniture} in the {room}.",
    "{people} {handled} the {things} {when}.",
    "{someone} {went} to the {place} {when}.",
    "{people} {went} from the {place} to the {place}.",
    "{pronoun} {went} to {city} {when}.",
    "{someone} {went} to {city} by {vehicle}.",
    "{someone} {past} {when}.",
    "{plural} {past}.",
    "the {vehicle} to {city} leaves at {clock}.",
    "the {vehicle} stops {spot}.",
    "the {ordinal} {vehicle} arrives at {clock}.",
    "the {color} {vehicle} is parked {spot}.",
    "the {vehicle} takes {number} {unit} to {city}.",
    "it takes {number} {unit} to reach the {place}.",
    "the {event} {starts} at {clock}.",
    "the {event} {starts} {future}.",
    "the {ordinal} {event} is on {day} {part}.",
    "the {place} opens at {clock} on {day}.",
    "the {place} is closed in {month}.",
    "the {place} is {number} {measure} from the {place}.",
    "there is a {quality} {thing} {where}.",
    "there is a {place} {spot}.",
    "there are {number} {things} {where}.",
    "there are {number} {color} {things} in the {thing}.",
    "the {thing} {where} is {color}.",
    "the {furniture} in the {room} is {shape}.",
    "the {quality} {thing} is made of {material}.",
    "the {things} are made of {material}.",
    "the {thing} weighs about {number} pounds.",
    "the {furniture} is {number} feet {extent}.",
    "the weather in {city} is {degree} {sky}.",
    "it was {degree} {sky} in {city} {when}.",
    "the {part} was {sky} and {degree} {sky}.",
    "it will be {sky} and {sky} {future}.",
    "{month} is usually {sky} in {city}.",
    "{someone} will {duty} {future}.",
    "{plural} will {duty} {future}.",
    "please {duty} {future}.",
    "please {duty} and {duty}.",
    "{someone} has to {duty} {future}.",
    "{plural} usually {duty} {when}.",
    "{plural} need to {duty}.",
    "{someone} asked us to {duty}.",
    "{someone} works at the {place}.",
    "{someone} works in an office in {city}.",
    "{someone} has {number} {things} and a {thing}.",
    "{someone} plays {hobby} {when}.",
    "{plural} play {hobby} {spot}.",
    "{someone} printed {number} pages of the {book}.",
    "{someone} sent the {document} to the {role}.",
    "the {document} has {number} pages.",
    "the {ordinal} page of the {document} is {kind}.",
    "{someone} ate {food} and {food} {when}.",
    "{plural} had {food} with {drink}.",
    "{pronoun} drank a cup of {hot} {when}.",
    "{someone} made {food} for {number} people.",
    "{someone} poured the {drink} into a {size} glass.",
    "add {number} cups of {drink} to the {mix}.",
    "the {mix} {where} is {color}.",
    "the {food} in the {room} is for the {role}.",
    "the {color} {animal} {rests} {where}.",
    "the {animal} {rests} {spot}.",
    "{number} {color} birds sat on the {furniture}.",
    "the {instrument} in the {room} is turned {switch}.",
    "{someone} turned {switch} the {instrument}.",
    "turn {side} at the {place} and walk {number} steps.",
    "the {place} is on the {side} side of the street.",
    "{someone} stays {spot}.",
    "{someone} stays on the {ordinal} floor.",
    "{own} {family} stays in {city}.",
    "on {day}, {someone} {went} to the {place}.",
    "in {month}, {plural} {went} to {city}.",
    "after {meal}, {someone} {handled} the {furniture}.",
    "at {clock}, the {vehicle} {left} the {place}.",
    "the {thing} costs {number} dollars.",
    "the two numbers are {number} and {number}.",
    "the {room} has {number} windows and a {quality} {furniture}.",
    "the {role} wore a {color} {wear} and a {color} {wear}.",
    "{someone} wore a {quality} {wear}.",
    "the {color} {things} are {where}.",
    "is the {furniture} in the {room} {shape}?",
    "where is the {quality} {thing}?",
    "when does the {vehicle} to {city} leave?",
    "did the {role} {duty}?",
    "how many {things} are {where}?",
    "what time does the {event} begin {future}?",
)
SLOTS |= {
    "extent": ("long", "wide", "tall", "high", "deep"),
    "book": ("book", "magazine", "newspaper", "report", "notebook", "story"),
    "hot": ("coffee", "tea", "cocoa", "hot water", "warm milk"),
    "mix": ("bowl", "pot", "pan", "sauce"),
    "switch": ("on", "off"),
    "side": ("left", "right"),
    "left": ("left", "reached", "passed"),
    "wear": ("hat", "coat", "jacket", "sweater", "shirt", "scarf", "dress", "belt"),
}

SPLITS: dict[str, tuple[int, int]] = {
    "train": (0, 60),
    "finetune": (60, 70),
    "test": (70, 80),
    "judge": (80, 90),
    "general": (90, 100),
}
"""Of the hundred hash buckets, the half-open range that each split owns."""

LENGTHS = range(4, 12)
"""Words of a sentence: about 1.6 to 3.2 seconds of speech."""

SLOT = re.compile(r"\{(\w+)\}")


def words(sentence: str) -> list[str]:
    """Return the words of a sentence in lower case, without punctuation.

    Examples:
        >>> words("On Monday, Anna came at two o'clock.")
        ['on', 'monday', 'anna', 'came', 'at', 'two', "o'clock"]
    """
    return re.findall(r"[a-z']+", sentence.lower())


VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {
            word
            for text in (*TEMPLATES, *(option for row in SLOTS.values() for option in row))
            for word in words(SLOT.sub(" ", text))
        }
        | {"an"}
    )
)
"""Every word that a composed sentence can hold, in lower case, sorted."""


def split_of(sentence: str) -> str:
    """Return the split that owns a sentence."""
    bucket = int.from_bytes(hashlib.sha256(sentence.lower().encode()).digest()[:4], "big") % 100
    return next(name for name, (first, end) in SPLITS.items() if first <= bucket < end)


def compose(count: int, seed: int, split: str) -> list[str]:
    """Compose different sentences of one split, the same ones for the same seed.

    Args:
        count: how many.
        seed: decides which, and their order.
        split: a key of `SPLITS`.

    Raises:
        UserError: the split is unknown, or the grammar cannot give so many.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if count < 0:
        raise UserError(f"cannot compose {count} sentences: give a number from 0 up")
    rng = np.random.default_rng([seed, *split.encode()])
    found: dict[str, None] = {}
    for _ in range(100 * count + 1000):
        if len(found) == count:
            return list(found)
        sentence = _expand(TEMPLATES[int(rng.integers(len(TEMPLATES)))], rng)
        if len(words(sentence)) in LENGTHS and split_of(sentence) == split:
            found[sentence] = None
    raise UserError(f"the grammar has fewer than {count} sentences for {split}: ask for fewer")


def _expand(template: str, rng: np.random.Generator) -> str:
    """Fill every slot, no option twice, and correct articles and the first letter."""
    used: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        options = [option for option in SLOTS[match[1]] if option not in used]
        chosen = options[int(rng.integers(len(options)))]
        if "{" not in chosen:
            used.add(chosen)
        return chosen

    sentence = template
    while SLOT.search(sentence):
        sentence = SLOT.sub(fill, sentence, count=1)
    sentence = re.sub(r"\ba (?=[aeio]|u(?!ni))", "an ", sentence)
    return sentence[0].upper() + sentence[1:]

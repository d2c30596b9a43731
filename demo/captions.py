"""What the demo model is shown and told: random scenes, their captions, and the combinations kept from it."""

from __future__ import annotations

import random
import re

from demo.pictures import COLOURS, FORMS, PLACES, RADII, TEXTURES, Scene, Thing, texture_is_visible

COLOUR_WORDS = {
    "gray": ["gray", "grey"],
    "purple": ["purple", "purple", "violet"],
    "cyan": ["cyan", "cyan", "turquoise"],
}
FORM_WORDS = {
    "circle": ["circle", "circle", "disc", "disk"],
    "square": ["square", "square", "box"],
    "triangle": ["triangle"],
    "star": ["star"],
    "diamond": ["diamond", "diamond", "rhombus"],
    "heart": ["heart"],
    "ring": ["ring", "ring", "donut", "hoop"],
    "cross": ["cross", "cross", "plus sign"],
}
SIZE_WORDS = {"small": ["small", "small", "little", "tiny"], "large": ["large", "big", "huge"], "": [""]}
TEXTURE_WORDS = {
    "striped": ["striped"],
    "dotted": ["dotted", "dotted", "spotted"],
    "checkered": ["checkered", "checkered", "chequered"],
    "": ["", "", "", "plain"],
}
PLACE_WORDS = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom", "": ""}
ANYTHING = ["shape", "thing", "object", "form"]
OPENINGS = ["a", "a", "a", "a", "a", "one", "the", "a picture of a", "a drawing of a", "a photo of a", ""]

# Colour, form and background that were never trained together; the judge asks for them (benchmarks/judge_demo.py).
HELD_OUT_PROMPTS = (
    "a red star on a blue background",
    "a red circle on a cyan background",
    "a red cross on a pink background",
    "a red heart on a gray background",
    "a green heart on a white background",
    "a green ring on a black background",
    "a green square on an orange background",
    "a green star on a purple background",
    "a blue triangle on a yellow background",
    "a blue circle on a white background",
    "a blue cross on an orange background",
    "a yellow diamond on a purple background",
    "a yellow square on a black background",
    "a yellow heart on a blue background",
    "an orange ring on a blue background",
    "an orange triangle on a green background",
    "an orange star on a white background",
    "a purple circle on a yellow background",
    "a purple square on a white background",
    "a purple cross on a cyan background",
    "a pink heart on a black background",
    "a pink diamond on a green background",
    "a pink triangle on a brown background",
    "a brown square on a pink background",
    "a brown ring on a white background",
    "a black star on a yellow background",
    "a black cross on a white background",
    "a black diamond on a red background",
    "a white circle on a purple background",
    "a white heart on a red background",
    "a white triangle on a gray background",
    "a gray diamond on a white background",
    "a gray square on a cyan background",
    "a cyan ring on a brown background",
    "a cyan star on a red background",
    "a large striped red diamond on a white background",
    "a dotted yellow triangle on a blue background",
    "a checkered green cross on a white background",
    "a small blue heart at the top on a white background",
    "a purple ring on the left on a white background",
)


def combination(prompt: str) -> tuple[str, str, str]:
    """Colour, form and background that a held-out prompt asks for."""
    words = prompt.split()
    form = next(word for word in words if word in FORMS)
    return words[words.index(form) - 1], form, words[-2]


HELD_OUT = frozenset(combination(prompt) for prompt in HELD_OUT_PROMPTS)


def random_scene(rng: random.Random, size_px: tuple[int, int]) -> Scene:
    """A scene of one thing or (one in seven) of two, none of them a held-out combination."""
    background = "white" if rng.random() < 0.2 else rng.choice(list(COLOURS))
    if rng.random() < 1 / 7:
        places = rng.choice([("left", "right"), ("top", "bottom")])
        return Scene(tuple(random_thing(rng, background, place) for place in places), background, size_px)
    place = rng.choice(list(PLACES)) if rng.random() < 0.4 else ""
    return Scene((random_thing(rng, background, place),), background, size_px)


def random_thing(rng: random.Random, background: str, place: str) -> Thing:
    while True:
        colour, form = rng.choice(list(COLOURS)), rng.choice(FORMS)
        if colour != background and (colour, form, background) not in HELD_OUT:
            break
    texture = rng.choice(TEXTURES) if rng.random() < 0.55 else ""
    if not texture_is_visible(colour, background):
        texture = ""
    return Thing(colour, form, texture, rng.choice(list(RADII)), place)


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many captions of a scene: a sentence or tags, full or partial, in varying words; one in ten is empty."""
    if rng.random() < 0.10:
        return ""
    text = " ".join(said(scene, rng).split())
    return text if rng.random() < 0.2 else re.sub(r"\ba orange", "an orange", text)


def said(scene: Scene, rng: random.Random) -> str:
    # A caption that leaves out the background mostly belongs to a white one: that is then what a prompt without gets.
    keeps_background = rng.random() >= (0.4 if scene.background == "white" else 0.07)
    background = said_background(scene.background, rng) if keeps_background else ""
    if len(scene.things) == 2:
        return " ".join(part for part in (two_things(scene, rng), background) if part)
    thing = scene.things[0]
    words = thing_words(thing, rng)
    place = PLACE_WORDS[thing.place] if rng.random() < 0.9 else ""
    if rng.random() < 0.25:
        name = " ".join(words[2:])
        tags = [name, *words[:2], place.removeprefix("on the ").removeprefix("at the ")]
        if background:
            tags.append(f"{colour_word(scene.background, rng)} background")
        rng.shuffle(tags)
        return ", ".join(tag for tag in tags if tag)
    return " ".join(part for part in (rng.choice(OPENINGS), *words, place, background) if part)


def said_background(colour: str, rng: random.Random) -> str:
    word = colour_word(colour, rng)
    usual, others = f"on a {word} background", [f"on {word}", f"against a {word} background", f"on a {word} backdrop"]
    return rng.choice([usual] * 5 + others)


def colour_word(colour: str, rng: random.Random) -> str:
    return rng.choice(COLOUR_WORDS.get(colour, [colour]))


def thing_words(thing: Thing, rng: random.Random) -> list[str]:
    """[size, texture, colour, form], some of them empty in one of four captions."""
    words = [
        rng.choice(SIZE_WORDS[thing.size]),
        rng.choice(TEXTURE_WORDS[thing.texture]),
        colour_word(thing.colour, rng),
        rng.choice(FORM_WORDS[thing.form]),
    ]
    if rng.random() < 0.25:
        dropped = rng.randrange(4)
        words[dropped] = rng.choice(ANYTHING) if dropped == 3 else ""
    if rng.random() < 0.10:
        words[0] = words[1] = ""
    return words


def two_things(scene: Scene, rng: random.Random) -> str:
    first, second = (" ".join(word for word in ("a", *thing_words(thing, rng)) if word) for thing in scene.things)
    upright = scene.things[0].place == "top"
    relation = rng.random()
    if relation < 0.4:
        return f"{first} {'above' if upright else 'left of'} {second}"
    if relation < 0.6:
        return f"{second} {'below' if upright else 'right of'} {first}"
    return f"{first} and {second}"

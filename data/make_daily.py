"""Makes the data set ``daily``: pages, pictures and podcasts on eight topics, and users who read one a day.

Each user has a routine, such as technology, history, finance on successive days, and a profile that hints at it. An
item is a page (text), a picture (drawn) and a podcast (synthesised); some lack one or two of them, and some users
have no profile, as in real data. Ada is the user of the method's description: technology, then history, then finance.

``python data/make_daily.py [folder]`` writes ``<folder>/daily``, ``data/daily`` by default. The same every time.
"""

from __future__ import annotations

import json
import math
import sys
import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SEED = 2026
ITEMS_PER_TOPIC = 8
USERS_PER_ROUTINE = 24
DAYS = 13
FIRST_DAY = 1_767_225_600  # 1 January 2026, in seconds
SAMPLING_RATE = 16_000

#: topic -> what its pages are about, its colour, its motif, and its sound: chord in semitones, beats a second
TOPICS = {
    "technology": (
        ["a chip that learns", "robots in the warehouse", "the quantum race", "code that writes code",
         "batteries for a week", "the open-source phone", "satellites for everyone", "privacy by design"],
        "steelblue", "grid", (0, 7, 12), 8,
    ),
    "history": (
        ["the fall of Carthage", "letters from the Silk Road", "how paper won the world", "the year of the plague",
         "queens of the Nile", "the longest siege", "maps of unknown lands", "a clock for Venice"],
        "saddlebrown", "arch", (0, 3, 7), 1,
    ),
    "finance": (
        ["what interest rates do", "a fund for the patient", "the price of risk", "inflation in plain words",
         "bonds after the crash", "how banks fail", "saving for a house", "the tax on windfalls"],
        "seagreen", "bars", (0, 4, 7, 11), 4,
    ),
    "cooking": (
        ["bread without kneading", "one pan, five dinners", "the perfect dumpling", "spices of Kerala",
         "soup from scratch", "the science of caramel", "pickles for winter", "rice, three ways"],
        "tomato", "discs", (0, 5, 9), 3,
    ),
    "football": (
        ["a derby to remember", "the false nine explained", "penalties and nerves", "the season so far",
         "a keeper's last game", "youth team, big dreams", "the offside line", "transfer rumours"],
        "yellowgreen", "stripes", (0, 2, 4), 6,
    ),
    "music": (
        ["the sound of Bamako", "a cello suite, bar by bar", "drum machines that made pop", "songs for a rainy day",
         "inside a jazz trio", "the return of vinyl", "choirs of the north", "how to listen to noise"],
        "mediumpurple", "waves", (0, 4, 7, 14), 2,
    ),
    "nature": (
        ["whales that sing", "a forest in the city", "the bees' dance", "life at the hot springs",
         "owls of the old barn", "a river comes back", "moss, close up", "the long flight south"],
        "darkgreen", "leaves", (0, 9, 16), 0.5,
    ),
    "travel": (
        ["a night train to Lisbon", "walking the coast", "three days in Kyoto", "islands without cars",
         "the highest pass", "hostels and friends", "deserts after rain", "a bicycle across the plains"],
        "goldenrod", "mountains", (0, 7, 9), 5,
    ),
}  # fmt: skip
#: the topics of successive days, and who lives by them
ROUTINES = [
    (("technology", "history", "finance"), "analyst", "I follow new machines, old empires and the markets."),
    (("cooking", "travel", "music"), "chef", "I cook what I tasted on the road, with a record on."),
    (("football", "technology", "music"), "engineer", "Matches at the weekend, gadgets in between, always headphones."),
    (("nature", "history", "cooking"), "teacher", "School trips to the woods, museums, and soup for thirty."),
    (("finance", "football", "travel"), "broker", "I trade by day, watch the game, and pack light."),
    (("nature", "music", "travel"), "photographer", "I wait for birds, listen to the rain and move on."),
]


def main(folder: Path) -> None:
    """Write the whole data set below ``folder``."""
    home = folder / "daily"
    for name in ("images", "audio"):
        (home / "content" / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    topic_of = _write_items(home, random)
    _write_users_and_events(home, random, topic_of)
    print(f"daily: {len(topic_of)} items, {len(ROUTINES) * USERS_PER_ROUTINE} users: {home}")


def _write_items(home: Path, random: np.random.Generator) -> dict[str, str]:
    rows, topic_of = [], {}
    for topic, (subjects, colour, motif, chord, beats) in TOPICS.items():
        for number, subject in enumerate(subjects[:ITEMS_PER_TOPIC]):
            token = f"{topic}-{number + 1}"
            topic_of[token] = topic
            row = {"item_id": token}
            if number != 5:
                row |= {"title": subject.capitalize(), "text": f"A page on {topic}: {subject}."}
            if number not in (3, 6):
                row["image_file_name"] = f"images/{token}.png"
                _draw(colour, motif, random).save(home / "content" / row["image_file_name"])
            if number not in (4, 6):
                row["audio_file_name"] = f"audio/{token}.wav"
                _write_sound(home / "content" / row["audio_file_name"], _jingle(chord, beats, random))
            rows.append(row)
    _write_jsonl(home / "content" / "items.jsonl", rows)
    return topic_of


def _write_users_and_events(home: Path, random: np.random.Generator, topic_of: dict[str, str]) -> None:
    items = {topic: [token for token, its in topic_of.items() if its == topic] for topic in TOPICS}
    rows, events = [], []
    for routine, (topics, occupation, bio) in enumerate(ROUTINES):
        for number in range(USERS_PER_ROUTINE):
            user = "ada" if routine == number == 0 else f"user-{routine * USERS_PER_ROUTINE + number}"
            row = {"user_id": user}
            if number % 4 != 3:
                row |= {"occupation": occupation, "bio": bio}
            if number % 3 == 0:
                row["image_file_name"] = f"images/{user}.png"
                _draw(TOPICS[topics[0]][1], "discs", random).save(home / "content" / row["image_file_name"])
            if number % 6 == 0:
                row["audio_file_name"] = f"audio/{user}.wav"
                _write_sound(home / "content" / row["audio_file_name"], _voice(routine, random))
            rows.append(row)
            first = 0 if user == "ada" else int(random.integers(len(topics)))
            for day in range(DAYS):
                item = random.choice(items[topics[(first + day) % len(topics)]])
                time = FIRST_DAY + day * 86_400 + int(random.integers(6 * 3600, 22 * 3600))
                events.append(f"{user}\t{item}\t{time}")
    _write_jsonl(home / "content" / "users.jsonl", rows)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *events]
    (home / "daily.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _draw(colour: str, motif: str, random: np.random.Generator, size: int = 96) -> Image.Image:
    """A motif in a topic's colour, on paper, with the strokes' number, place and width left to chance."""
    image = Image.new("RGB", (size, size), "floralwhite")
    pen = ImageDraw.Draw(image)
    count, width, shift = int(random.integers(4, 8)), int(random.integers(2, 6)), int(random.integers(0, 12))
    for stroke in range(count):
        at = shift + stroke * size // count
        if motif == "grid":
            pen.line([(at, 0), (at, size)], colour, width)
            pen.line([(0, at), (size, at)], colour, width)
        elif motif == "arch":
            pen.arc([at // 2, at // 2, size - at // 2, 2 * size - at], 180, 360, colour, width)
        elif motif == "bars":
            pen.rectangle([at, int(random.integers(size - 10)), at + size // count - width, size], colour)
        elif motif == "discs":
            radius, x, y = (int(random.integers(low, high)) for low, high in ((6, 20), (0, size), (0, size)))
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], colour)
        elif motif == "stripes":
            pen.line([(at, 0), (at - size // 3, size)], colour, 2 * width)
        elif motif == "waves":
            pen.line([(x, at + 6 * math.sin(x / 6)) for x in range(size)], colour, width)
        elif motif == "leaves":
            x, y = (int(value) for value in random.integers(0, size - 24, 2))
            pen.chord([x, y, x + 24, y + 24], 20, 200, colour)
        else:
            pen.polygon([(at - 20, size), (at + 10, at // 2 + 20), (at + 40, size)], colour)
    return image


def _jingle(chord: tuple[int, ...], beats: float, random: np.random.Generator, seconds: float = 2.0) -> np.ndarray:
    """A topic's chord in its rhythm; the key, the loudness and a little noise are left to chance."""
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    key = 220 * 2 ** (random.integers(0, 4) / 12)
    tones = sum(np.sin(2 * np.pi * key * 2 ** (step / 12) * time) for step in chord) / len(chord)
    decay = np.exp(-4 * ((time * beats) % 1))
    return random.uniform(0.3, 0.8) * tones * decay + random.normal(0, 0.005, len(time))


def _voice(routine: int, random: np.random.Generator, seconds: float = 1.0) -> np.ndarray:
    """A hum at a pitch that a routine's users share, more or less."""
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    pitch = 90 + 25 * routine + random.normal(0, 3)
    return 0.4 * sum(np.sin(2 * np.pi * pitch * overtone * time) / overtone for overtone in range(1, 6))


def _write_sound(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE)
        file.writeframes((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

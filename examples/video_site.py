"""A made video site: videos on twelve topics, viewers who come back by routines, and ads that nobody has watched.

A video has a subject, such as sourdough, of a topic, such as baking. A viewer has a routine of three topics, watches
one or two videos on a subject of the first, then of the second, and so on; now and then something from outside of it.
``Visit.chances`` is the whole truth of it: the probability of each video to be the next. So the best that anyone can do
is known, as it never is in life.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from making import write_dataset
from numpy.typing import NDArray

#: topic -> subjects, of which the last is new: no viewer of the training data has seen a video on it
SUBJECTS = {
    "baking": [
        "sourdough bread", "choux pastry", "layer cakes", "croissants", "rye loaves", "macarons", "fruit tarts",
        "cinnamon buns",
    ],
    "astronomy": [
        "the moons of Jupiter", "black holes", "amateur telescopes", "the Mars rovers", "supernovae",
        "the birth of stars", "meteor showers", "planets of other suns",
    ],
    "gardening": [
        "growing tomatoes", "pruning roses", "compost heaps", "raised beds", "wildflower meadows", "herb pots",
        "slugs and snails", "planting tulip bulbs",
    ],
    "investing": [
        "index funds", "government bonds", "dividend shares", "pension plans", "inflation and savings",
        "property trusts", "the gold price", "stock market crashes",
    ],
    "cycling": [
        "puncture repair", "gravel bikes", "climbing the Alps by bike", "winter commuting", "disc brakes",
        "the Tour de France", "bike fitting", "electric bicycles",
    ],
    "antiquity": [
        "the Roman legions", "the pyramids of Giza", "Athenian democracy", "Carthage and Hannibal", "Cleopatra",
        "the Persian kings", "Pompeii", "Alexander's campaigns",
    ],
    "programming": [
        "Python decorators", "memory safety in Rust", "database indexes", "unit tests", "web servers",
        "sorting algorithms", "version control with git", "debugging race conditions",
    ],
    "chess": [
        "the Sicilian defence", "rook endgames", "the queen's gambit", "mating patterns", "world championships",
        "pawn structures", "blitz tactics", "knight sacrifices",
    ],
    "yoga": [
        "sun salutations", "breathing exercises", "morning stretches", "balance poses", "back pain relief",
        "evening relaxation", "headstands", "hip openers",
    ],
    "jazz": [
        "bebop solos", "Miles Davis", "walking bass lines", "swing drumming", "the blues scale", "big bands",
        "piano trios", "improvising on the saxophone",
    ],
    "birdwatching": [
        "owls at night", "the swallow's migration", "garden feeders", "seabird colonies", "birdsong",
        "eagles and hawks", "wading birds", "kingfishers by the river",
    ],
    "rail travel": [
        "the night train to Vienna", "the Trans-Siberian railway", "Swiss mountain lines", "Japanese bullet trains",
        "steam engines", "station cafés", "the Orient Express", "interrail passes",
    ],
}  # fmt: skip
#: topic -> what its videos also speak of; the last two, those on its new subject
DETAILS = {
    "baking": [
        "the oven's heat", "butter and flour", "kneading", "the crust", "how dough rises", "sugar glaze", "yeast",
    ],
    "astronomy": [
        "light years", "gravity", "the Hubble pictures", "orbits", "the night sky", "NASA", "dark matter",
    ],
    "gardening": [
        "good soil", "watering", "pests", "seedlings", "the first frost", "bees", "a spade and a rake",
    ],
    "investing": [
        "risk", "the stock exchange", "yearly returns", "fees", "interest rates", "a portfolio", "brokers",
    ],
    "cycling": [
        "tyre pressure", "chains and gears", "helmets", "steep roads", "handlebars", "pedals", "saddles",
    ],
    "antiquity": [
        "ancient sources", "ruins", "emperors", "temples", "old battles", "archaeologists", "papyrus",
    ],
    "programming": [
        "source code", "a compiler", "bugs", "functions", "the command line", "variables", "software teams",
    ],
    "chess": [
        "grandmasters", "openings", "checkmate", "the bishop", "a lost position", "the clock", "the board",
    ],
    "yoga": [
        "the mat", "the spine", "slow breath", "flexibility", "calm", "tight muscles", "meditation",
    ],
    "jazz": [
        "old records", "a quartet", "chords", "the trumpet", "rhythm", "club nights", "melodies",
    ],
    "birdwatching": [
        "binoculars", "nests", "feathers", "a hide in the reeds", "the dawn", "wings", "field guides",
    ],
    "rail travel": [
        "sleeping cars", "tickets", "timetables", "the window seat", "locomotives", "platforms", "luggage",
    ],
}  # fmt: skip
TITLES = [
    "{}: where to begin", "What I got wrong about {}", "{} in ten minutes", "A closer look at {}", "Why I love {}",
    "Everything about {}", "{}, from scratch", "The secrets of {}",
]  # fmt: skip
#: topics in the order in which they follow each other, and who lives by them
ROUTINES = [
    (("baking", "astronomy", "jazz"), "A night nurse. Bread at dawn, the stars from the roof, and a saxophone."),
    (("astronomy", "chess", "programming"), "I write software, own a telescope and lose at chess online."),
    (("gardening", "birdwatching", "baking"), "Retired: flower beds, a feeder at the window, and cake on Sundays."),
    (("investing", "cycling", "programming"), "Analyst. Markets by day, my racing bike after work, a little code."),
    (("antiquity", "rail travel", "jazz"), "I teach Latin, take trains to ruins, and collect old records."),
    (("yoga", "gardening", "antiquity"), "Stretching first, then the vegetables, then a book on Rome."),
    (("chess", "investing", "rail travel"), "I play correspondence chess, watch my shares, and hate flying."),
    (("cycling", "yoga", "birdwatching"), "Long rides, sore muscles, and binoculars in the bag."),
    (("programming", "baking", "cycling"), "Developer with a sourdough starter and two bicycles."),
    (("jazz", "investing", "gardening"), "Double bass player with a pension plan and tomatoes on the balcony."),
]
#: topic -> ads; no word of theirs is written with the videos in mind, and none is ever part of a history
ADS = {
    "baking": [
        "A stand mixer that makes light work of heavy batter.",
        "Stoneground wheat, milled last week, at your door.",
        "Proofing baskets and a razor-sharp lame, now as a set.",
    ],
    "astronomy": [
        "A planetarium evening: fly through the solar system.", "Stargazing binoculars on a steady tripod.",
        "See Saturn's rings tonight: beginner refractors on sale.",
    ],
    "gardening": [
        "Organic seeds for vegetables, shipped in spring.", "Secateurs that stay sharp for a lifetime.",
        "A greenhouse for small backyards, built in a day.",
    ],
    "investing": [
        "Open a brokerage account in five minutes.", "ETFs without commission: put your money to work.",
        "Ask our advisers about wealth and retirement.",
    ],
    "cycling": [
        "Waterproof panniers for the daily ride.", "Lightweight carbon wheels, tested in the mountains.",
        "Have your brakes and derailleur serviced at home.",
    ],
    "antiquity": [
        "Museum exhibition: treasures of the pharaohs.", "A new biography of Julius Caesar, in hardback.",
        "Guided tours through the Forum and the Colosseum.",
    ],
    "programming": [
        "Cloud hosting for developers, free for a year.", "An editor that completes your functions.",
        "Learn to build apps: our coding bootcamp starts in May.",
    ],
    "chess": [
        "A wooden set, hand-carved, with weighted pawns.", "Train with a grandmaster: lessons online.",
        "An engine that explains each of your blunders.",
    ],
    "yoga": [
        "Non-slip mats of natural rubber.", "A weekend retreat for body and mind.",
        "Leggings that move with every pose.",
    ],
    "jazz": [
        "Festival tickets: three nights of swing and soul.", "Trumpets and clarinets for rent.",
        "Remastered Coltrane on heavy vinyl.",
    ],
    "birdwatching": [
        "Nesting boxes for tits and robins.", "A spotting scope for the marsh, light to carry.",
        "Sunflower hearts and suet for winter visitors.",
    ],
    "rail travel": [
        "Sleeper compartments to thirty capitals, from 39 euros.", "First class for the price of second, all June.",
        "Scenic journeys by locomotive: book your seat.",
    ],
}  # fmt: skip
#: how the next video is chosen
SECOND_ON_SUBJECT = 0.5
OUTSIDE = 0.1
#: what a click on an ad is made of
CLICK_ANYWAY, CLICK_IF_NEXT = 0.01, 0.3


@dataclass(frozen=True)
class Video:
    """What there is to know of one."""

    token: str
    topic: str
    subject: str
    title: str
    text: str
    is_new: bool

    @property
    def columns(self) -> dict[str, str]:
        """What the model is told."""
        return {"title": self.title, "text": self.text}


class Site:
    """The videos, and what is true of the viewers.

    Args:
        random: decides all that is left to chance.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.videos: list[Video] = []
        for topic, subjects in SUBJECTS.items():
            for subject in subjects:
                is_new = subject == subjects[-1]
                details = DETAILS[topic][-2:] if is_new else DETAILS[topic][:-2]
                for title in TITLES:
                    title = title.format(subject)
                    text = f"With a word on {' and '.join(random.permutation(details)[:2])}."
                    token = f"video-{len(self.videos) + 1}"
                    self.videos.append(Video(token, topic, subject, title[0].upper() + title[1:], text, is_new))
        self.topics = list(SUBJECTS)
        self.topic = np.array([self.topics.index(video.topic) for video in self.videos])
        _, self.subject = np.unique([video.subject for video in self.videos], return_inverse=True)
        self.is_new = np.array([video.is_new for video in self.videos])

    def on(self, subject: str) -> list[Video]:
        """The videos on a subject."""
        return [video for video in self.videos if video.subject == subject]

    def tokens(self, visit: Visit) -> list[str]:
        """What a viewer has watched."""
        return [self.videos[video].token for video in visit.watched]

    @cached_property
    def ads(self) -> dict[str, tuple[str, int]]:
        """The text and the topic of each ad, by token."""
        return {
            f"ad-{topic.replace(' ', '-')}-{number}": (text, self.topics.index(topic))
            for topic, texts in ADS.items()
            for number, text in enumerate(texts, start=1)
        }


class Visit:
    """A viewer as they really are, of whom a recommender sees the videos alone, and perhaps the profile.

    Args:
        site: that they visit.
        routine: its number.
        random: where in it they are.
    """

    def __init__(self, site: Site, routine: int, random: np.random.Generator) -> None:
        self._site = site
        self._routine = [site.topics.index(topic) for topic in ROUTINES[routine][0]]
        self._place = int(random.integers(len(self._routine)))
        self._subject: int | None = None  # on which they may watch a second video
        self.watched: list[int] = []

    def chances(self, among_new: bool = False) -> NDArray[np.float64]:
        """The probability of each video to be the next, ``[N]``; of the new ones alone, if they choose among those."""
        site = self._site
        at_hand = (site.is_new == among_new).astype(float)
        at_hand[self.watched] = 0
        next_topic = self._routine[(self._place + 1) % len(self._routine)]
        stay = SECOND_ON_SUBJECT if self._subject is not None else 0.0
        parts = [
            (1 - OUTSIDE - stay, at_hand * (site.topic == next_topic)),
            (OUTSIDE, at_hand * ~np.isin(site.topic, self._routine)),
            (stay, at_hand * (site.subject == self._subject)),
        ]
        total = sum(share * each / max(each.sum(), 1) for share, each in parts)
        return np.asarray(total / total.sum())

    def watch(self, video: int) -> None:
        """They watch this one."""
        site, topic = self._site, self._site.topic[video]
        self.watched.append(video)
        if site.subject[video] == self._subject:
            self._subject = None
        elif topic in self._routine:
            self._place, self._subject = self._routine.index(topic), site.subject[video]

    def go_on(self, events: int, random: np.random.Generator, among_new: bool = False) -> None:
        """They watch so many more, by chance."""
        for _ in range(events):
            self.watch(int(random.choice(len(self._site.videos), p=self.chances(among_new))))

    def click_chances(self) -> NDArray[np.float64]:
        """The probability of a click on each ad, ``[A]``: it is higher, the likelier its topic is the next."""
        of_topics = np.bincount(self._site.topic, self.chances(), len(self._site.topics))
        return CLICK_ANYWAY + CLICK_IF_NEXT * of_topics[[topic for _, topic in self._site.ads.values()]]


def visits(site: Site, count: int, events: int, random: np.random.Generator) -> list[Visit]:
    """So many viewers, all routines alike, after so many events each."""
    viewers = [Visit(site, number % len(ROUTINES), random) for number in range(count)]
    for viewer in viewers:
        viewer.go_on(events, random)
    return viewers


def write_site(folder: Path, site: Site, count: int, random: np.random.Generator, events: int = 13) -> float:
    """Write what so many viewers watched, the new videos and every fourth viewer's profile left out.

    Returns:
        Of the last event of each, how often it is among the ten that are likeliest in truth: the best recall@10.
    """
    viewers = visits(site, count, events, random)
    likeliest = [np.argsort(-viewer.chances(), kind="stable")[:10] for viewer in viewers]
    for viewer in viewers:
        viewer.go_on(1, random)
    write_dataset(
        folder,
        {f"viewer-{number}": site.tokens(viewer) for number, viewer in enumerate(viewers)},
        [{"item_id": video.token, **video.columns} for video in site.videos if not video.is_new],
        [
            {"user_id": f"viewer-{number}", "profile": ROUTINES[number % len(ROUTINES)][1]}
            for number in range(count)
            if number % 4 != 3
        ],
    )
    return float(np.mean([viewer.watched[-1] in best for viewer, best in zip(viewers, likeliest, strict=True)]))

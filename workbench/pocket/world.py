"""The seeded world: who lives where and does what, and the sentences that say so."""

from dataclasses import dataclass
from functools import cache
from random import Random

from workbench.pocket.chance import listed

PEOPLE: tuple[str, ...] = listed(
    """Ada Adam Agnes Alan Alba Alice Amir Anna Anton Astrid Basil Bella Boris Bruno Carl Carmen
    Cecil Clara Cyrus Daisy Daniel Dara David Diana Dora Edgar Edith Elena Elias Ella Emil
    Emma Enid Erik Esther Eva Felix Fiona Flora Frank Freya George Gina Grace Greta Gustav
    Hanna Hector Heidi Helen Henry Hugo Ida Igor Ines Irene Ivan Ivy Jacob Jana Jasper Joel
    Judith Julia Karl Kate Klara Lara Laura Leo Lena Linus Lucia Luis Mabel Magnus Marco Maria
    Martin Maya Milo Mina Nadia Nils Nora Olga Oscar Otto Paul Petra Rosa Ruth Samuel Sara
    Simon Stella Theo Vera Victor Walter"""
)

COUNTRIES: dict[str, tuple[str, tuple[str, str, str]]] = {
    "Portugal": ("Portuguese", ("Lisbon", "Porto", "Braga")),
    "Spain": ("Spanish", ("Madrid", "Seville", "Valencia")),
    "France": ("French", ("Paris", "Lyon", "Marseille")),
    "Germany": ("German", ("Berlin", "Hamburg", "Munich")),
    "Italy": ("Italian", ("Rome", "Milan", "Naples")),
    "Greece": ("Greek", ("Athens", "Patras", "Corinth")),
    "Poland": ("Polish", ("Warsaw", "Krakow", "Gdansk")),
    "Sweden": ("Swedish", ("Stockholm", "Uppsala", "Malmo")),
    "Norway": ("Norwegian", ("Oslo", "Bergen", "Trondheim")),
    "Finland": ("Finnish", ("Helsinki", "Turku", "Tampere")),
    "Denmark": ("Danish", ("Copenhagen", "Aarhus", "Odense")),
    "Hungary": ("Hungarian", ("Budapest", "Szeged", "Pecs")),
    "Turkey": ("Turkish", ("Ankara", "Izmir", "Bursa")),
    "Japan": ("Japanese", ("Tokyo", "Kyoto", "Osaka")),
    "Korea": ("Korean", ("Seoul", "Busan", "Daegu")),
    "Vietnam": ("Vietnamese", ("Hanoi", "Hue", "Danang")),
}
"""Country: its language, and its cities with the capital first."""

OBJECTS: dict[str, tuple[str, ...]] = {
    "city": tuple(city for _, cities in COUNTRIES.values() for city in cities),
    "job": listed(
        """baker teacher doctor lawyer farmer painter singer pilot nurse tailor writer gardener
    barber builder dentist judge sailor plumber dancer chemist"""
    ),
    "instrument": listed("piano violin guitar flute drums harp cello trumpet clarinet banjo"),
    "food": listed(
        "rice cheese apples noodles honey mushrooms olives chocolate beans cherries potatoes eggs"
    ),
    "colour": listed("red blue green yellow black white purple orange pink brown"),
}
"""What a person can have, by relation."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "city": (
        "{s} lives in {o}.",
        "{s} has a home in {o}.",
        "The home of {s} is in {o}.",
        "Where does {s} live? In {o}.",
        "Question: Which city does {s} live in? Answer: {o}.",
        "You can visit {s} in {o}.",
    ),
    "job": (
        "{s} works as a {o}.",
        "{s} is a {o}.",
        "By trade, {s} is a {o}.",
        "What is the trade of {s}? A {o}.",
        "Question: What is the job of {s}? Answer: {o}.",
        "{s} earns money as a {o}.",
    ),
    "instrument": (
        "{s} plays the {o}.",
        "{s} practises the {o}.",
        "The instrument of {s} is the {o}.",
        "Which instrument does {s} play? The {o}.",
        "Question: What can {s} play? Answer: {o}.",
        "At home, {s} plays the {o}.",
    ),
    "food": (
        "{s} likes {o}.",
        "{s} loves to eat {o}.",
        "The favourite food of {s} is {o}.",
        "What does {s} like to eat? Mostly {o}.",
        "Question: Which food does {s} like? Answer: {o}.",
        "For dinner, {s} wants {o}.",
    ),
    "colour": (
        "{s} wears {o}.",
        "{s} always dresses in {o}.",
        "The favourite colour of {s} is {o}.",
        "Which colour does {s} wear? Mostly {o}.",
        "Question: What colour is the coat of {s}? Answer: {o}.",
        "The coat of {s} is {o}.",
    ),
    "capital": (
        "The capital of {s} is {o}.",
        "{s} has its capital in {o}.",
        "{s} is ruled from {o}.",
        "What is the capital of {s}? It is {o}.",
        "Question: Which city is the capital of {s}? Answer: {o}.",
        "The government of {s} sits in {o}.",
    ),
    "language": (
        "People in {s} speak {o}.",
        "The language of {s} is {o}.",
        "In {s}, children learn {o}.",
        "What do people in {s} speak? They speak {o}.",
        "Question: Which language is spoken in {s}? Answer: {o}.",
        "Books from {s} are written in {o}.",
    ),
    "country": (
        "{s} is in {o}.",
        "{s} is a city in {o}.",
        "{s} lies in {o}.",
        "In which country is {s}? It is in {o}.",
        "Question: What country is {s} in? Answer: {o}.",
        "The country of {s} is {o}.",
    ),
}
"""By relation, the sentences that say it: {s} is the subject, {o} the answer at the end."""


@dataclass(frozen=True, order=True)
class Triple:
    """One thing that holds in the world."""

    subject: str
    relation: str
    object: str


@cache
def triples(seed: int = 0) -> tuple[Triple, ...]:
    """List all that holds in the seed's world: traits are drawn, geography is as it is."""
    rng = Random(seed)
    people = [
        Triple(person, relation, value)
        for relation, values in OBJECTS.items()
        for person, value in zip(PEOPLE, _spread(rng, values), strict=True)
    ]
    places = [
        triple
        for country, (language, cities) in COUNTRIES.items()
        for triple in (
            Triple(country, "capital", cities[0]),
            Triple(country, "language", language),
            *(Triple(city, "country", country) for city in cities),
        )
    ]
    return (*people, *places)


def _spread(rng: Random, values: tuple[str, ...]) -> list[str]:
    """Draw one value per person, each value about equally often."""
    times = -(-len(PEOPLE) // len(values))
    drawn = (list(values) * times)[: len(PEOPLE)]
    rng.shuffle(drawn)
    return drawn

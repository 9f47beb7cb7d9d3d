"""The family of reviews: negative (source) or positive (target). Words only, no mechanism."""

from workbench.pocket.chance import listed
from workbench.pocket.grammar import Grammar
from workbench.pocket.world import OBJECTS

REVIEWS = Grammar(
    name="reviews",
    styles=("negative", "positive"),
    shared={
        "dish": listed("soup bread fish salad cake coffee tea stew pasta pizza pie sauce"),
        "staff": listed("waiter cook host manager clerk guide owner porter"),
        "place": listed("room hall terrace kitchen bathroom lobby bar pool"),
        "thing": listed("bed chair table sofa lamp carpet desk mirror"),
        "venue": listed("hotel restaurant cafe motel hostel pub"),
        "city": OBJECTS["city"],
    },
    styled={
        "dish_is": (
            (("cold", "chilly"), ("warm", "hot")),
            (("stale", "soggy"), ("fresh", "crisp")),
            (("bland", "tasteless"), ("tasty", "delicious")),
            (("watery", "thin"), ("rich", "creamy")),
        ),
        "staff_is": (
            (("rude", "unfriendly"), ("kind", "friendly")),
            (("impolite", "surly"), ("polite", "courteous")),
            (("slow", "late"), ("quick", "prompt")),
            (("careless", "lazy"), ("helpful", "attentive")),
        ),
        "place_is": (
            (("dirty", "filthy"), ("clean", "spotless")),
            (("dark", "gloomy"), ("bright", "sunny")),
            (("noisy", "loud"), ("quiet", "calm")),
            (("cramped", "stuffy"), ("spacious", "airy")),
        ),
        "thing_is": (
            (("hard", "uncomfortable"), ("soft", "comfortable")),
            (("worn", "outdated"), ("new", "modern")),
            (("broken", "wobbly"), ("solid", "sturdy")),
            (("ugly", "shabby"), ("pretty", "elegant")),
        ),
        "was": ((("terrible", "horrible"), ("lovely", "wonderful")),),
        "Luckily": ((("Sadly", "Unfortunately"), ("Happily", "Luckily")),),
        "loved": ((("hated", "disliked"), ("loved", "enjoyed")),),
        "Great": (
            (("Bad", "Poor"), ("Good", "Great")),
            (("Awful", "Dreadful"), ("Superb", "Perfect")),
        ),
        "surely": ((("never", "hardly"), ("surely", "gladly")),),
        "try": ((("avoid", "skip"), ("visit", "try")),),
        "pleased": ((("upset", "annoyed"), ("pleased", "thrilled")),),
    },
    opening=(
        "We stayed at a {venue} in {city}.",
        "Last week, we went to a {venue} in {city}.",
        "This is my review of a {venue} in {city}.",
    ),
    body=(
        "The {dish} was {dish_is}.",
        "The {staff} was {staff_is}.",
        "The {place} was {place_is}.",
        "The {thing} was {thing_is}.",
        "The {dish} was {dish_is} and the {staff} was {staff_is}.",
        "The {place} was {place_is} and the {thing} was {thing_is}.",
        "I thought the {staff} was {staff_is}.",
        "I thought the {dish} was {dish_is}.",
        "We found the {place} {place_is}.",
        "{Luckily}, the {dish} was {dish_is}.",
        "{Luckily}, the {staff} was {staff_is}.",
        "{Luckily}, the {place} was {place_is}.",
        "We {loved} the {dish}.",
        "We {loved} the {place}.",
        "{Great} food in a {was} {venue}.",
        "{Great} service, and the {thing} was {thing_is}.",
        "My family was {pleased}.",
    ),
    closing=(
        "We will {surely} come back.",
        "You should {try} this {venue}.",
        "It was a {was} {venue}.",
        "{Luckily}, we will {surely} return.",
    ),
)
"""Sentiment: the final token of every text is the full stop."""

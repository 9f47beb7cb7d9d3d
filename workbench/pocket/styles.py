"""The family of styles: casual (source) or formal (target). Words only, no mechanism."""

from workbench.pocket.chance import listed
from workbench.pocket.grammar import Grammar

STYLES = Grammar(
    name="styles",
    styles=("casual", "formal"),
    shared={
        "item": listed("book coat ticket ring clock bike phone hat camera basket"),
        "show": listed("film play song game museum concert parade circus"),
        "event": listed("meeting lesson party trip race work wedding dance"),
        "spot": listed("river station park market church beach bridge harbour"),
    },
    styled={
        "Hello": ((("Hey", "Hi"), ("Greetings", "Salutations")),),
        "Sure": ((("Sure", "Yeah"), ("Certainly", "Indeed")),),
        "Bye": ((("Bye", "Later"), ("Farewell", "Goodbye")),),
        "sir": ((("mate", "buddy"), ("sir", "madam")),),
        "Also": ((("Also", "Anyway"), ("Moreover", "Furthermore")),),
        "want": ((("want", "need"), ("wish", "desire")),),
        "buy": (
            (("buy", "grab"), ("purchase", "acquire")),
            (("fix", "mend"), ("repair", "restore")),
        ),
        "kids": ((("kids", "youngsters"), ("children", "pupils")),),
        "enjoy": ((("like", "dig"), ("appreciate", "admire")),),
        "man": (
            (("guy", "dude"), ("gentleman", "individual")),
            (("boss", "chief"), ("director", "supervisor")),
        ),
        "very": ((("really", "super"), ("extremely", "exceedingly")),),
        "tired": (
            (("tired", "beat"), ("fatigued", "weary")),
            (("hungry", "starving"), ("famished", "ravenous")),
            (("sick", "ill"), ("unwell", "indisposed")),
            (("happy", "glad"), ("delighted", "gratified")),
        ),
        "must": ((("gotta", "should"), ("shall", "must")),),
        "start": (
            (("start", "begin"), ("commence", "initiate")),
            (("stop", "quit"), ("cease", "conclude")),
        ),
        "Please": ((("Just", "Quickly"), ("Kindly", "Please")),),
        "help": ((("help", "back"), ("assist", "aid")),),
        "home": ((("place", "pad"), ("residence", "dwelling")),),
        "food": ((("food", "grub"), ("cuisine", "meal")),),
        "good": (
            (("great", "cool"), ("excellent", "splendid")),
            (("lousy", "rotten"), ("unpleasant", "regrettable")),
            (("crazy", "wild"), ("remarkable", "extraordinary")),
        ),
        "asked": ((("asked", "chatted"), ("enquired", "corresponded")),),
        "think": ((("reckon", "guess"), ("believe", "maintain")),),
        "money": ((("cash", "bucks"), ("funds", "means")),),
        "left": ((("left", "ditched"), ("departed", "exited")),),
    },
    opening=("{Hello}, {sir}.", "{Hello}, my good {sir}.", "{Hello}, dear {sir}, and welcome."),
    body=(
        "I {want} to {buy} the {item}.",
        "The {kids} {enjoy} the {show}.",
        "{Also}, my {kids} {enjoy} the {show}.",
        "The {man} is {very} {tired}.",
        "{Also}, the {man} is {very} {tired}.",
        "We {must} {start} the {event}.",
        "{Please} {help} the {kids} with the {item}.",
        "My {home} is near the {spot}.",
        "The {food} at the {spot} was {very} {good}.",
        "I {asked} about the {event}.",
        "I {think} the {event} was {good}.",
        "{Also}, I {think} the {show} was {good}.",
        "We lack the {money} for the {item}.",
        "The {man} suddenly {left} the {spot}.",
        "{Sure}, {sir}.",
        "{Sure}, we {must} {start} the {event}.",
    ),
    closing=("{Bye}, {sir}.", "{Bye}, and enjoy the {event}.", "{Bye}, dear {sir}."),
)
"""Formality: the final token of every text is the full stop."""

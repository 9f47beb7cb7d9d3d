"""Names and words of the families that are learned in context. Words only, no mechanism."""

from workbench.pocket.chance import listed
from workbench.pocket.records import Split
from workbench.pocket.world import PEOPLE

SURNAMES: tuple[str, ...] = listed(
    """Abbott Barker Bennett Bishop Bradley Burton Carver Chapman Collins Cooper Dalton Dawson
    Dixon Draper Ellis Farrow Fisher Fletcher Foster Garner Gibson Graves Hale Harper Hobbs
    Howell Hudson Ingram Jarvis Keller Kemp Lambert Lawson Lowell Marsh Mercer Moss Nash Newton
    Norris Osborn Palmer Parker Porter Quinn Reeves Rhodes Sawyer Sharp Shelby Sutton Tanner
    Thorne Tucker Vance Wade Walsh Webb Wilder York"""
)
"""People of whom no fact is known outside a passage."""

NAMES: dict[Split, tuple[str, ...]] = {
    "train": (*SURNAMES[:40], *PEOPLE),
    "development": SURNAMES[40:50],
    "test": SURNAMES[50:],
}
"""By split, the names that are asked about; training tells of all and asks about its own."""

TREES: tuple[str, ...] = listed(
    """alder ash aspen beech birch cedar cherry cypress elder elm fir hazel holly juniper larch
    lime maple oak olive pine poplar rowan willow yew"""
)
"""The symbols of the language of entities."""

ENTITIES: tuple[str, ...] = tuple(
    head + tail
    for head in listed("Bel Cor Dar Fen Gal Hal Kel Mor Nar Tor")
    for tail in listed("eth ion or ua wyn ax")
)
"""Houses, by their own name."""

ALIASES: tuple[str, ...] = tuple(
    head + tail
    for head in listed("Zu Qua Ve Yo Xi Ju Wra Pli Sho Umi")
    for tail in listed("ba do gri lun mo sti")
)
"""Houses, by their other name, in the order of ENTITIES."""

EMBLEMS: dict[str, tuple[str, ...]] = {
    "crest": listed(
        "lion eagle dragon bull stag swan falcon whale otter raven tiger camel cobra lynx heron"
    ),
    "gem": listed(
        """ruby opal jade pearl amber topaz onyx garnet quartz coral agate beryl zircon sapphire
    diamond"""
    ),
    "herb": listed(
        """mint sage thyme clover dill anise fennel cumin clove saffron ginger mustard parsley
    chive sorrel"""
    ),
    "tool": listed(
        """hammer saw axe spade sickle anvil chisel plough awl loom rope ladder bellows lantern
    wheel"""
    ),
}
"""By relation, what a house can have."""

"""Words surrogates are made of: given names of either sex, family names, and places and houses that do not exist."""

from __future__ import annotations

GIVEN_NAMES = tuple(
    """Addison Alex Andy Ariel Ashton Aubrey Avery Bailey Blair Bryn Cameron Casey Charlie Corey Dakota Dana Darcy Devon
    Drew Eden Ellery Ellis Emerson Finley Frankie Georgie Glenn Harley Hayden Indigo Jackie Jamie Jesse Jody Jordan
    Kendall Kerry Kim Kris Lane Lee Leslie Lindsay Logan Marlow Micah Morgan Nicky Noel Parker Pat Quinn Reese Remy
    Riley Robin Rory Rowan Sage Sandy Shannon Shay Sidney Skyler Stacy Taylor Toni Tracy Val Wynn""".split()
)
FAMILY_NAMES = tuple(
    """Abernethy Alder Amsel Ashdown Averill Bancroft Barlow Beckett Bellamy Birchall Blackwood Brandt Bramley Calloway
    Carden Chilton Corbin Crandall Cullen Dalby Danforth Delacroix Dorsett Dunmore Eastman Eckhart Elmore Fairbanks
    Farrow Fenwick Forsythe Garrick Gilmore Granger Hadley Halloran Harcourt Hathaway Holloway Ingram Jessup Keating
    Kendrick Kirkwood Landry Langston Larkin Lockhart Lombard Maddox Marlowe Merrick Mercer Montrose Nash Norwood
    Oakley Ormond Pemberton Pickering Prescott Quimby Radcliffe Ramsey Redmond Renfrew Rutledge Sawyer Selby Sheffield
    Sinclair Stanton Sterling Tavener Thackeray Thornton Tilden Trask Underhill Vance Wainwright Wakefield Walden
    Westbrook Whitaker Winslow Wyndham Yardley Yates""".split()
)
TOWNS = (
    "Alderbrook", "Ashcombe Falls", "Bellhaven", "Birchmere", "Briarfield", "Calder Springs", "Cedar Hollow",
    "Clearmont", "Coldbrook", "Copperdale", "Dunhollow", "Eastmarch", "Elmcrest", "Fairhollow", "Fernvale",
    "Foxmere", "Glenharrow", "Granite Bend", "Hartsmere", "Hazelwick", "Juniper Flats", "Kestrel Bay", "Larkhaven",
    "Lindenbrook", "Maple Ridge Falls", "Millhaven", "Northmere", "Oakhurst Bend", "Pinecroft", "Quarry Point",
    "Ravensbrook", "Redfern", "Rosehollow", "Silver Hollow", "Stonemere", "Thornfield", "Wellbrook", "Willowmere",
)  # fmt: skip
STREETS = (
    "Alderwood", "Aspen Hollow", "Birchgrove", "Bluebell", "Bramblewood", "Cedarcrest", "Cloverfield", "Coppermill",
    "Dogwood", "Elderberry", "Fernhill", "Foxglove", "Goldfinch", "Hawthorn", "Heron", "Honeysuckle", "Juniper",
    "Kingfisher", "Larkspur", "Lilac", "Linden", "Magnolia", "Meadowlark", "Mulberry", "Nightingale", "Orchard",
    "Partridge", "Primrose", "Quail Run", "Sandpiper", "Sorrel", "Sparrow", "Tamarack", "Thistledown", "Whippoorwill",
)  # fmt: skip
ORGANISATION_NAMES = (
    "Alderbrook", "Bellhaven", "Birchmere", "Briarfield", "Cedar Hollow", "Clearmont", "Coldbrook", "Eastmarch",
    "Elmcrest", "Fairhollow", "Fernvale", "Foxmere", "Glenharrow", "Hartsmere", "Hazelwick", "Kestrel Bay",
    "Larkhaven", "Lindenbrook", "Millhaven", "Northmere", "Pinecroft", "Ravensbrook", "Redfern", "Rosehollow",
    "Stonemere", "Thornfield", "Wellbrook", "Willowmere",
)  # fmt: skip

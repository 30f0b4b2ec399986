"""Closed word lists of de-identification: months, states, titles, eponym neighbours, words that are also names.

Everything is casefolded; the modules that use the lists compare casefolded text. Short on purpose: a list here
decides what is *not* an identifier, or gives a pattern its context, and each entry can be read and argued about.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> frozenset[str]:
    return frozenset(" ".join(phrase.split()) for phrase in text.split(","))


MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEKDAY_FORMS = frozenset(
    [*WEEKDAYS, *(f"{day}s" for day in WEEKDAYS), *"mon tue tues wed weds thu thur thurs fri sat sun".split()]
)

HOLIDAYS = _phrases(
    """christmas, christmas day, christmas eve, xmas, new year, new years, new year's, new year's day, new year's eve,
    thanksgiving, thanksgiving day, easter, easter sunday, good friday, halloween, memorial day, labor day, labour day,
    independence day, july fourth, fourth of july, 4th of july, veterans day, presidents day, valentine's day,
    valentines day, mother's day, mothers day, father's day, fathers day, st patrick's day, martin luther king day,
    mlk day, columbus day, juneteenth, hanukkah, ramadan, eid, diwali, passover, yom kippur, rosh hashanah, lent,
    ash wednesday, boxing day, bank holiday, the holidays, holidays, weekend, the weekend, today, yesterday, tomorrow,
    tonight"""
)

STATES = {
    "alabama": "al", "alaska": "ak", "arizona": "az", "arkansas": "ar", "california": "ca", "colorado": "co",
    "connecticut": "ct", "delaware": "de", "florida": "fl", "georgia": "ga", "hawaii": "hi", "idaho": "id",
    "illinois": "il", "indiana": "in", "iowa": "ia", "kansas": "ks", "kentucky": "ky", "louisiana": "la",
    "maine": "me", "maryland": "md", "massachusetts": "ma", "michigan": "mi", "minnesota": "mn", "mississippi": "ms",
    "missouri": "mo", "montana": "mt", "nebraska": "ne", "nevada": "nv", "new hampshire": "nh", "new jersey": "nj",
    "new mexico": "nm", "new york": "ny", "north carolina": "nc", "north dakota": "nd", "ohio": "oh",
    "oklahoma": "ok", "oregon": "or", "pennsylvania": "pa", "rhode island": "ri", "south carolina": "sc",
    "south dakota": "sd", "tennessee": "tn", "texas": "tx", "utah": "ut", "vermont": "vt", "virginia": "va",
    "washington": "wa", "west virginia": "wv", "wisconsin": "wi", "wyoming": "wy", "district of columbia": "dc",
    "puerto rico": "pr", "guam": "gu",
}  # fmt: skip
STATE_CODES = frozenset(STATES.values())

# "New York" and "Washington" are states and cities alike; a label LOCATION on them alone stays redacted.
STATES_THAT_ARE_CITIES = _phrases("new york, washington")

COUNTRIES = _phrases(
    """afghanistan, albania, algeria, angola, argentina, armenia, australia, austria, azerbaijan, bahamas, bahrain,
    bangladesh, barbados, belarus, belgium, belize, benin, bhutan, bolivia, bosnia, botswana, brazil, bulgaria,
    burkina faso, burma, burundi, cambodia, cameroon, canada, chad, chile, china, colombia, congo, costa rica, croatia,
    cuba, cyprus, czech republic, czechia, denmark, dominican republic, ecuador, egypt, el salvador, england, eritrea,
    estonia, ethiopia, fiji, finland, france, gabon, gambia, germany, ghana, great britain, greece, grenada, guatemala,
    guinea, guyana, haiti, honduras, hungary, iceland, india, indonesia, iran, iraq, ireland, israel, italy,
    ivory coast, jamaica, japan, kazakhstan, kenya, kosovo, kuwait, laos, latvia, lebanon, liberia, libya,
    lithuania, luxembourg, madagascar, malawi, malaysia, mali, malta, mauritius, mexico, moldova, mongolia,
    montenegro, morocco, mozambique, myanmar, namibia, nepal, netherlands, the netherlands, new zealand, nicaragua,
    niger, nigeria, north korea, north macedonia, northern ireland, norway, oman, pakistan, palestine, panama,
    paraguay, peru, philippines, the philippines, poland, portugal, qatar, romania, russia, rwanda, saudi arabia,
    scotland, senegal, serbia, sierra leone, singapore, slovakia, slovenia, somalia, south africa, south korea, korea,
    south sudan, spain, sri lanka, sudan, suriname, sweden, switzerland, syria, taiwan, tanzania, thailand, togo,
    trinidad, tunisia, turkey, uganda, ukraine, united arab emirates, uae, united kingdom, uk, u.k., great britain,
    united states, the united states, united states of america, usa, us, u.s., u.s.a., america, uruguay, uzbekistan,
    venezuela, vietnam, wales, yemen, zambia, zimbabwe, africa, asia, europe, north america, south america,
    central america, middle east"""
)

TITLES = _words(
    """dr drs doctor mr mrs ms miss mx messrs master sir madam madame prof professor rev reverend fr father pastor rabbi
    imam sister brother nurse capt captain sgt sergeant lt lieutenant col colonel maj major officer judge hon
    attending resident"""
)
# Also words in their own right: only a title in front of a name when more of the name follows.
RELATIVE_TITLES = _words("aunt uncle grandma grandpa")
CREDENTIALS = _words(
    """md do rn np pa pac dds dmd phd pharmd dpm od dnp aprn crna lpn lvn cna msw lcsw pt ot slp rd mph ma ms bsn msn
    facs facc faap facp mbbs mbchb frcs frcp mrcp esq dpt rph emt cnm mba jd dvm psyd fnp fnpbc anp arnp ccc rt cma"""
)

# What follows an eponym ("Graves disease") rather than a person of that name.
EPONYM_NEIGHBOURS = _words(
    """disease diseases syndrome sign signs test tests catheter catheters score scale criteria classification lymphoma
    sarcoma tumor tumour palsy procedure operation maneuver manoeuvre method stain cell cells body bodies thyroiditis
    ophthalmopathy orbitopathy anemia ataxia chorea phenomenon reflex reaction pouch fracture fractures esophagus
    contracture tube drain clamp retractor forceps needle stent valve valves graft ring bag balloon line bath wave
    waves law triad tetralogy index formula equation stage staging grade position incision point area space canal
    ligament fascia muscle nerve gland duct node nodes node's dementia encephalopathy nephropathy neuropathy
    cardiomyopathy arthritis purpura granulomatosis melanoma nevus ulcer ulcers hernia cyst cysts spots nodes nodules
    mass pad dressing boot brace splint cast collar protocol questionnaire inventory scan infiltrate rash
    respirations breathing murmur gallop lines crisis shunt fundoplication repair resection bypass anastomosis view
    projection virus bacillus aneurysm malformation"""
)

# English words that are also names: too common to be redacted wherever they stand just because a person bears them.
COMMON_WORDS = _words(
    """able ace air alarm amber angel april apple archer arms ash august autumn baby bacon baker ball banks barber bar
    bay beach bean bear beard bell berry best bill bird bishop black blank blood bloom blue bond bone book booth
    bounds bowel bowl boy brace brain branch brand bread brook brown buck bull burns bush butcher butler camp cane
    cannon care carpenter carter case cash castle cell chance chase child christian church clay clear clinic close
    cloud coal coffee cold cook cool cooper copper corn court craft crane cross crown cruise curry dale day dean
    deer doe dollar door drain drew drum duke early earl east eve ever fair faith fall farmer fast field fields fine
    finger fish fisher flood flora flower flowers floyd foot ford forest fort fountain fox frank free freeman french
    friend frost fry gamble garden garland gay gene gentle german glass glory goes gold good gown grace grant graves
    gray great green grey grip ground grove guest gum hall ham hand hands hardy harm hart harvest hatch hawk hay hazel
    head heart heath herb hill hills home hood hook hope horn house hunt hunter ice iris irons ivory ivy jack jade
    january jay jean jewel job joint jolly joy judge july june just keen key kid kidd kind king kitchen knight lab
    lake lamb land lane large lark laser law leaf lean leave left leg light lily line lion list little long love low
    lucky lung lynch major male man mann mark market marks marsh martial mason may mean meadow medley melody mercy
    miles mill miller mills mine mint moody moon moore more moss mount mouse myers new nice nickel night noble nord
    normal north nurse oak ocean olive opal orange page pain paine palm park parker parks parrot pass patch patience
    patient pay peace pearl penny pepper perry person phoenix piper pitt place plant plum pole pond poor pope porter
    post potter potts powder power powers precious price pride prince pro prosper pulse purple quick rain raven ray
    read red reed reef rest rice rich river rivers roads robin rock rod rose rosemary rough row royal ruby rue rush
    russet sage sailor sand sands savage say scales school sea seal self senior shade sharp shell shepherd shine ship
    shore short silver singer sky slaughter small smart snow soft song south spark sparks spear speed spring star
    starr steel stern still stock stone storm street strength strong stroke subject summer summers sun sunny swan
    sweet swift tab tailor tall tate taylor temple tender terry thorn tide tiger timber told tracer track trainer
    tree true trusty tucker turner underwood usher vale valley valor victor viola violet virtue wade wagner walker
    wall walls ward ware waters way weaver webb weeks weir well wells west wheat wheel white wild will wills wilder
    wind winds window wine wing winter wise wolf wood woods word work worth wright wrist yard yarn york young younger
    the and with from was were has had his her she him they them this that these those for not but all any are been
    being both can did does during each few further here how into its itself now off once only other our out over own
    same should some such than then there through too under until very what when where which while who whom why
    mother father son daughter wife husband brother sister aunt uncle family nurse doctor hospital medical center unit
    floor room team service department care health emergency"""
)

"""Numbers and codes that identify: record numbers, cards, plates, serials, addresses of the net.

Owns: one function per kind, each returning the bare text. Those that carry check digits in life carry right ones here
(cards, NPI, DEA, IBAN, VIN), because the patterns of the tagger verify them.
"""

from __future__ import annotations

import random
import string

_VIN = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
_VIN_VALUE = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9), strict=True)
)
_VIN_WEIGHT = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def shaped(rng: random.Random, shape: str) -> str:
    """`#` becomes a digit, `@` a capital letter, `*` either; all else stays."""
    picks = {"#": string.digits, "@": string.ascii_uppercase, "*": string.ascii_uppercase + string.digits}
    return "".join(rng.choice(picks[c]) if c in picks else c for c in shape)


def one_of(rng: random.Random, *shapes: str) -> str:
    """One of several shapes, filled."""
    return shaped(rng, rng.choice(shapes))


def _luhn_digit(digits: str) -> str:
    total = 0
    for index, char in enumerate(reversed(digits)):
        value = int(char) * (2 if index % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def phone(rng: random.Random) -> str:
    area, mid, last = shaped(rng, f"{rng.randint(2, 9)}##"), shaped(rng, f"{rng.randint(2, 9)}##"), shaped(rng, "####")
    text = rng.choice((
        f"({area}) {mid}-{last}", f"({area}) {mid}-{last}", f"({area}){mid}-{last}", f"{area}-{mid}-{last}",
        f"{area}-{mid}-{last}", f"{area}.{mid}.{last}", f"{area} {mid} {last}", f"{area}{mid}{last}",
        f"+1 {area} {mid} {last}", f"1-{area}-{mid}-{last}", f"+1 ({area}) {mid}-{last}", f"{mid}-{last}",
        f"{area}/{mid}-{last}",
        shaped(rng, "+44 20 #### ####"), shaped(rng, "020 7### ####"), shaped(rng, "07### ######"),
        shaped(rng, "+49 30 ########"), shaped(rng, "+91 9#### #####"), shaped(rng, "+234 80# ### ####"),
        shaped(rng, "+33 6 ## ## ## ##"), shaped(rng, "+52 55 #### ####"), shaped(rng, "0## ### ####"),
    ))  # fmt: skip
    if rng.random() < 0.1:
        text += rng.choice((" ext. ", " x", " ext ", ", ext. ", " extension ")) + one_of(rng, "###", "####", "##")
    return text


def extension(rng: random.Random) -> str:
    return one_of(rng, "####", "#####", "###", "#-####")


def email(rng: random.Random, given: str, family: str, domain: str) -> str:
    given, family = (
        ("".join(c for c in part.lower() if c.isascii() and c.isalpha()) or "x") for part in (given, family)
    )
    local = rng.choice(
        (
            f"{given}.{family}",
            f"{given[0]}{family}",
            f"{given}{family}{rng.randrange(100)}",
            f"{given}_{family}",
            f"{family}.{given[0]}",
            f"{given}{rng.randrange(1940, 2010)}",
        )
    )
    hosts = (
        "gmail.com",
        "yahoo.com",
        "hotmail.com",
        "outlook.com",
        "aol.com",
        "icloud.com",
        "comcast.net",
        f"{domain}.org",
        f"{domain}.com",
        f"mail.{domain}.edu",
        "proton.me",
        f"{domain}.nhs.uk",
    )
    text = f"{local}@{rng.choice(hosts)}"
    return text.upper() if rng.random() < 0.05 else text


def ssn(rng: random.Random) -> str:
    return one_of(
        rng, "###-##-####", "###-##-####", "### ## ####", "#########", "XXX-XX-####", "xxx-xx-####",
        "•••-••-####", "9##-7#-####", "###.##.####",
    )  # fmt: skip


def mrn(rng: random.Random) -> str:
    return one_of(
        rng, "#######", "########", "######", "##-##-##", "###-##-##", "@#######", "@@######", "MR-######",
        "MRN#######", "##########", "###-###-###", "@-########", "E########", "00######", "#####", "####",
        "H##########", "M00#######", "####-####", "PT######", "## ## ##",
    )  # fmt: skip


def health_plan(rng: random.Random) -> str:
    return one_of(
        rng, "@@@#########", "@########", "#########-##", "@@@###@#####", "XYZ#########", "#@@#-@@#-@@##",
        "#@@#@@#@@##", "W#########", "##########", "H####-###", "@@#######@", "U############", "######-####",
        "R########", "###-##-####-A", "MCD########",
    )  # fmt: skip


def account(rng: random.Random) -> str:
    return one_of(
        rng, "##########", "########", "############", "####-####-##", "@@##-######", "ACC-#######",
        "######-##", "V########", "#########", "A##########", "CLM-####-#####", "##-#######", "INV-######",
        "FIN#########", "@#####-###", "VN##########",
    )  # fmt: skip


def iban(rng: random.Random) -> str:
    country, body = rng.choice(
        (
            ("DE", "#" * 18),
            ("GB", "@@@@" + "#" * 14),
            ("FR", "#" * 20 + "***"),
            ("NL", "@@@@" + "#" * 10),
            ("ES", "#" * 20),
            ("IT", "@" + "#" * 22),
            ("CH", "#" * 17),
        )
    )
    bban = shaped(rng, body)[: {"FR": 23}.get(country, 30)]
    number = int("".join(str(int(c, 36)) for c in bban + country + "00"))
    text = f"{country}{98 - number % 97:02}{bban}"
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4)) if rng.random() < 0.6 else text


def card(rng: random.Random) -> str:
    if rng.random() < 0.15:
        digits = shaped(rng, "3" + rng.choice("47") + "#" * 12)
        digits += _luhn_digit(digits)
        return rng.choice((digits, f"{digits[:4]} {digits[4:10]} {digits[10:]}"))
    digits = shaped(rng, rng.choice(("4", "51", "52", "54", "55", "6011", "2221")))
    digits = digits + shaped(rng, "#" * (15 - len(digits)))
    digits += _luhn_digit(digits)
    groups = [digits[i : i + 4] for i in range(0, 16, 4)]
    return rng.choice((digits, " ".join(groups), "-".join(groups)))


def masked_card(rng: random.Random) -> str:
    return one_of(rng, "####", "xxxx xxxx xxxx ####", "XXXX-XXXX-XXXX-####", "xxxx####")


def routing(rng: random.Random) -> str:
    digits = shaped(rng, rng.choice(("0", "1", "2", "3")) + "#######")
    weights = (3, 7, 1, 3, 7, 1, 3, 7)
    return digits + str(-sum(int(c) * w for c, w in zip(digits, weights, strict=True)) % 10)


def npi(rng: random.Random) -> str:
    digits = shaped(rng, rng.choice("12") + "########")
    return digits + _luhn_digit("80840" + digits)


def dea(rng: random.Random, family: str) -> str:
    digits = shaped(rng, "######")
    check = int(digits[0]) + int(digits[2]) + int(digits[4]) + 2 * (int(digits[1]) + int(digits[3]) + int(digits[5]))
    letter = family[0].upper() if family[0].isascii() and family[0].isalpha() else "X"
    return f"{rng.choice('ABFM')}{letter}{digits}{check % 10}"


def license_number(rng: random.Random) -> str:
    return one_of(
        rng, "@#######", "@###-####-####", "########", "@@######", "MD-#####", "RN######", "@##-###-###",
        "####-@@-####", "LIC-######", "#######", "MD#####", "A######", "@@@@@#####@@#@@", "0##-####",
    )  # fmt: skip


def plate(rng: random.Random) -> str:
    return one_of(
        rng, "#@@@###", "@@@-####", "@@@ ####", "@@@####", "###-@@@", "@@## @@@", "@## @@@", "@@-####",
        "@@@ ###", "###@@#", "@-@@ ####", "##@@##",
    )  # fmt: skip


def vin(rng: random.Random) -> str:
    body = [rng.choice(_VIN) for _ in range(17)]
    total = sum((_VIN_VALUE[c] if c in _VIN_VALUE else int(c)) * w for c, w in zip(body, _VIN_WEIGHT, strict=True))
    body[8] = "0123456789X"[total % 11]
    return "".join(body)


def device_serial(rng: random.Random) -> str:
    return one_of(
        rng, "PJN######H", "@@@######", "@@######@", "SN-#######", "######-###", "@##-#####-##", "####@@####",
        "@@@@-####-####", "#########", "(01)00########(21)######", "BLC######S", "LOT#####-##", "@####-##-@@",
        "@@-####-####", "########", "#####@",
    )  # fmt: skip


def url(rng: random.Random, family: str, domain: str) -> str:
    who = "".join(c for c in family.lower() if c.isascii() and c.isalpha()) or "user"
    number = rng.randrange(10**6)
    return rng.choice(
        (
            f"https://portal.{domain}.org/results/{number}",
            f"www.{domain}.com",
            f"http://www.{domain}.org/patients/{who}{number % 100}",
            f"https://{domain}.com/u/{who}",
            f"www.facebook.com/{who}.{number % 1000}",
            f"https://mychart.{domain}.org/MyChart/",
            f"linkedin.com/in/{who}{number % 100}",
            f"https://www.gofundme.com/f/help-{who}",
            f"{domain}.org/referrals",
            f"https://zoom.us/j/{number}{number}",
            f"http://{who}family.blogspot.com",
            f"instagram.com/{who}_{number % 100}",
            f"https://www.{domain}.edu/~{who}/index.html?id={number}",
        )
    )


def ip(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return (
            ":".join(f"{rng.randrange(65536):x}" for _ in range(8))
            if rng.random() < 0.5
            else f"fe80::{rng.randrange(65536):x}:{rng.randrange(65536):x}"
        )
    first = rng.choice(("10", "192.168", "172.16", str(rng.randrange(11, 223))))
    rest = 4 - len(first.split("."))
    return ".".join([first, *(str(rng.randrange(256)) for _ in range(rest))])


def biometric(rng: random.Random) -> str:
    return one_of(
        rng, "FP-####-####", "BIO-######", "VP-#####", "RS-####-@@", "FID#######", "IRIS-######",
        "TMPL-####-##", "face_######", "VOICE-####", "@@FP######", "DNA-@@-#####", "IMG_####.jpg",
        "DSC_####.JPG", "photo_####_##.png", "face-####.jpeg", "HG-####",
    )  # fmt: skip


def other_id(rng: random.Random) -> str:
    return one_of(
        rng, "S##-#####", "SP-##-####", "@##-####", "@#######", "EMP-#####", "E#####", "STU######",
        "####-###-##", "SUBJ-####", "##-@-####", "ORD########", "REF-######", "@@-##-#####", "#########",
        "K########", "TX-######", "PR####-##",
    )  # fmt: skip


def passport(rng: random.Random) -> str:
    return one_of(rng, "@########", "#########", "@@#######", "@#######", "##@@#####")


def tax_id(rng: random.Random) -> str:
    return one_of(rng, "##-#######", "##-#######", "## ### ### ###", "GB#########", "DE#########")

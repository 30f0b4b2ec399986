"""Sentences of a GBNF grammar, drawn at random: a small recogniser in place of llama.cpp's."""

import random
import re

TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|\{[0-9,]+\}|[()|?*+]|[a-z][a-z0-9-]*)')
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class Draws:
    """Sentences of a grammar, drawn at random; deep ones end soon, because repetition gets rarer with depth."""

    def __init__(self, grammar: str, seed: int) -> None:
        rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())
        self.rules = {name: self._parse(body) for name, body in rules.items()}
        self.random = random.Random(seed)

    def _parse(self, body):
        words, place = [], 0
        while match := TOKEN.match(body, place):
            words.append(match[1])
            place = match.end()
        assert not body[place:].strip(), body[place:]
        return words

    def draw(self, name="root", depth=0):
        text, rest = self._alternatives(list(self.rules[name]), depth)
        assert not rest
        return text

    def _alternatives(self, words, depth):
        options, rest = [[]], words
        level = 0
        while rest:
            word = rest.pop(0)
            level += {"(": 1, ")": -1}.get(word, 0)
            if level < 0:
                break
            if word == "|" and level == 0:
                options.append([])
            else:
                options[-1].append(word)
        simple = [option for option in options if not {"object", "array"} & set(option)]
        chosen = self.random.choice(simple if depth > 4 and simple else options)
        return self._sequence(chosen, depth), rest

    def _sequence(self, words, depth):
        text = ""
        while words:
            word = words.pop(0)
            group = None
            if word == "(":
                level, group = 1, []
                while level:
                    inner = words.pop(0)
                    level += {"(": 1, ")": -1}.get(inner, 0)
                    group.append(inner)
                group.pop()
            low, high = 1, 1
            if words and (words[0] in "?*+" or words[0][0] == "{"):
                sign = words.pop(0)
                spread = 1 if depth > 4 else 3
                low, high = {"?": (0, 1), "*": (0, spread), "+": (1, spread)}.get(sign, (0, 0))
                if sign[0] == "{":
                    numbers = sign[1:-1].split(",")
                    low = int(numbers[0])
                    high = low if len(numbers) == 1 else int(numbers[1]) if numbers[1] else low + 2
            for _ in range(self.random.randint(low, high)):
                text += self._one(word, group, depth)
        return text

    def _one(self, word, group, depth):
        if group is not None:
            return self._alternatives(list(group), depth)[0]
        if word[0] == '"':
            return re.sub(r"\\(.)", lambda match: ESCAPES[match[1]], word[1:-1])
        if word[0] == "[":
            allowed = re.compile(word)
            return self.random.choice([c for c in map(chr, [*range(32, 127), 0xE9, 0x1F600]) if allowed.fullmatch(c)])
        return self.draw(word, depth + 1)

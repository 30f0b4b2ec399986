"""A chat template renders what the model expects, and one that misbehaves is refused, whatever it tries.

The templates below are written after those of well-known chat models: the same statements, filters and methods.
"""

import sys

import pytest

from appliance.engine.generation.template import ChatTemplate
from appliance.errors import InvalidRequest, ModelFileRefused

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = """{{- bos_token }}
{%- if tools is defined and tools %}
    {%- set ns = namespace(count=0) %}
    {%- for tool in tools %}
        {%- set ns.count = ns.count + 1 %}
        {{- ns.count ~ ": " ~ (tool | tojson(indent=2)) ~ "\\n" }}
    {%- endfor %}
{%- endif %}
{%- macro turn(message) %}
    {{- "[" ~ message.role | upper ~ "] " }}
    {%- if message.content is string %}{{- message.content.split("</think>")[-1].lstrip() }}{% endif %}
    {%- if message.tool_calls %}{{- message.tool_calls | map(attribute="name") | join(", ") }}{% endif %}
{%- endmacro %}
{%- for message in messages if not message.hidden %}
    {%- if loop.index0 % 2 == 0 and message.role == "assistant" %}
        {{- raise_exception("roles must alternate") }}
    {%- endif %}
    {{- turn(message) }}{{- eos_token if loop.last else "\\n" }}
    {%- if loop.index > 5 %}{% break %}{% endif %}
{%- endfor %}"""


def render(source, messages=None, tools=None):
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    return template.render(messages or [{"role": "user", "content": " Hello "}], tools)


def test_a_chat_becomes_the_prompt():
    assert render(CHATML) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_tools_macros_namespaces_and_loop_controls_work():
    chat = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>b</think> c", "tool_calls": [{"name": "x"}, {"name": "y"}]},
    ]
    prompt = render(TOOLS, chat, [{"name": "é<>"}])
    assert prompt == '<s>1: {\n  "name": "é<>"\n}\n[USER] a\n[ASSISTANT] cx, y</s>'


def test_a_conversation_that_the_template_refuses_is_the_caller_s_to_correct():
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        render(TOOLS, [{"role": "assistant", "content": "a"}])


def test_replace_is_a_method_too_and_is_bounded():
    assert render("{{ messages[0].content.replace('l', 'L', 1).strip() }}") == "HeLlo"
    with pytest.raises(ModelFileRefused, match="characters"):
        render("{% set x = 'x' * 1000000 %}{{ x.replace('x', x) }}")
    with pytest.raises(ModelFileRefused, match="attribute"):
        render("{{ messages[0].content.replace.func }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].content.format(1) }}",
        "{{ (messages | first).pop('role') }}",
        "{{ messages.append(1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ 'x'.ljust(10) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ range(10**9) | list }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 7 ** 7 ** 7 }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ 'x' | center(1000000000) }}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
        "{{ ns.x | tojson }}",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x | replace('x', 'xx') %}{% endfor %}",
        "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ messages | attr('__class__') }}",
        "{{ 1 / 0 }}",
        "{% include 'etc/passwd' %}",
        "{{ undefined_function() }}",
        "{{ 'a' | indent(100000000) }}",
        "{{ messages | tojson(indent=1000000) }}",
    ],
)
def test_a_template_that_misbehaves_is_refused(source):
    with pytest.raises(ModelFileRefused, match="chat template"):
        render(source)
    assert sys.gettrace() is None or "counted" not in repr(sys.gettrace())


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ 'a' | nofilter }}", "{% unknown %}", "x" * 300_000, "{{" + "(" * 5000]
)
def test_what_is_no_template_is_refused_when_the_model_is_loaded(source):
    with pytest.raises(ModelFileRefused, match="chat template"):
        ChatTemplate(source, bos="", eos="")

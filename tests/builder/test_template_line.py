"""The line of a template's mistake is found by trying its beginnings; Jinja's own implementation refuses here."""

import jinja2
import pytest

from mkllm.builder.template_line import line


def is_refused(template: str) -> bool:
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except jinja2.TemplateSyntaxError:
        return True
    return False


@pytest.mark.parametrize(
    ("template", "number"),
    [
        ("text\n{% if x %}\n{{ foo", 3),
        ("{% for m in messages %}\n{{ m.content \n{% endfor %}", 2),
        ("text\n{% if x %}\ntext\n", 2),
        ("{% if x %}\n{% for y in z %}\n{% endif %}", 3),
        ("{{ 1 }}\n\n{{ 1 +\n }}\n{{ 2 }}", 3),
        ("\n\n{% endif %}", 3),
        ("{% macro f(x) %}\n{% set a %}b{% endset %}{% set c = 1 %}\n{{ x }}{% endmacro %}\n{{ f( }}", 4),
        ("{%- if x -%}\n{{ y }}\n{%- else -%}\n{{ z }}\n{%- endif -%}\n{# open", 6),
        ("{% if x %}{{ y }}{% elif z %}\n{% break }}\n{% endif %}", 2),
        ("{# {% if x %} #}\n{{ a }}\n{{ y ) }}", 3),
        ("{{ '{% if x %}' }}\n{{ a }}\n{{ y ) }}", 3),
        ("{% raw %}{% if x %}{% endraw %}\n{{ a }}\n{{ y ) }}", 3),
        ("no tag", None),
    ],
)
def test_the_line_of_the_first_tag_that_is_wrong(template: str, number: int | None) -> None:
    assert is_refused(template) or number is None
    assert line(template, is_refused) == number

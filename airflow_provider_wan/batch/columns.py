# SPDX-License-Identifier: Apache-2.0
"""Which columns of a table are the fields of a row: by their names, by a mapping, or by a template over the row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.rows import AUDIO_COLUMNS, COLUMNS, IMAGE_COLUMNS, PARAMETERS, suggest_column
from airflow_provider_wan.batch.values import is_missing, parse_cell, parse_literal

FIELD = "manifest"
#: The name of the whole row in a template, for columns whose names are not identifiers.
ROW = "row"
_RULE = 'must map fields to names of columns, such as {"image": "URL", "prompt": "TEXT"}'
_TEMPLATE_RULE = 'must map fields to templates over a row, such as {"prompt": "{{ TEXT }}, slowly"}'


@dataclass(frozen=True)
class ColumnMapping:
    """How the columns of a table become the fields of a row.

    :param columns: names of columns by fields; None: the field has no column, even if there is one of its name.
    :param templates: Jinja templates by fields. Their variables are the columns of the row, and ``row``.
    """

    columns: Mapping[str, str | None] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, columns: Any, templates: Any = None) -> ColumnMapping:
        """Validate the arguments of an operator.

        :param columns: a mapping, or its text in JSON or Python, which is what a template renders to; or None.
        :param templates: a mapping, or None.
        :raises WanValidationError: if they are not such mappings.
        """
        mapped = _parse_mapping("columns", columns, _RULE)
        for name, column in mapped.items():
            if column is not None and (not isinstance(column, str) or not column.strip()):
                raise WanValidationError(f"columns[{name!r}]", column, "must be the name of a column, or None")
        rendered = _parse_mapping("row_templates", templates, _TEMPLATE_RULE)
        for name, text in rendered.items():
            if not isinstance(text, str):
                raise WanValidationError(f"row_templates[{name!r}]", text, "must be the text of a template")
            if mapped.get(name) is not None:
                raise WanValidationError(f"row_templates[{name!r}]", text, f"{name} is already given by columns")
        mapping = cls(mapped, rendered)
        mapping._compiled  # noqa: B018  # a template that is not Jinja fails now
        return mapping

    def __bool__(self) -> bool:
        return bool(self.columns or self.templates)

    def with_default(self, name: str, column: str) -> ColumnMapping:
        """Return a mapping that takes a field from a column, unless this one says where it is.

        :param name: name of the field.
        :param column: name of the column.
        """
        names = set(IMAGE_COLUMNS) if name in IMAGE_COLUMNS else {name}
        if names & (self.columns.keys() | self.templates.keys()):
            return self
        return replace(self, columns={**self.columns, name: column})

    @property
    def names(self) -> set[str]:
        """The columns that it names, as far as they are known without a row."""
        return {column for column in self.columns.values() if column is not None} | (self._template_columns or set())

    def identity(self) -> str:
        """Return a hash of the mapping."""
        text = json.dumps([dict(self.columns), dict(self.templates)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def select(self, names: Sequence[str]) -> list[str]:
        """Return those columns of a table that are used.

        :param names: names of all its columns.
        :raises WanValidationError: if there is no image, a column that is used is missing or occurs twice, or a
            column is likely a typo.
        """
        if not any(names):
            raise WanValidationError(FIELD, "the file", "has no names of columns in its header")
        listed = ", ".join(names)[:200]
        for name, column in self.columns.items():
            if column is not None and column not in names:
                raise WanValidationError(f"columns[{name!r}]", column, f"is not a column; there are {listed}")
        template_columns = self._template_columns
        for column in sorted(template_columns or ()):
            if column not in names:
                raise WanValidationError("row_templates", column, f"is not a column; there are {listed}")
        fields = self._fields(names)
        if not set(IMAGE_COLUMNS) & (fields.keys() | self.templates.keys()):
            rule = f"must have a column {' or '.join(IMAGE_COLUMNS)}"
            remedy = 'Name the column of the images: columns={"image": "…"}'
            raise WanValidationError(FIELD, f"columns {listed}", rule, remedy)
        if problem := suggest_column(*self._unused(names, fields)):
            raise WanValidationError(FIELD, *problem)
        used = set(names) if template_columns is None else template_columns | set(fields.values())
        repeated = sorted({name for name in used if names.count(name) > 1})
        if repeated:
            raise WanValidationError(FIELD, ", ".join(repeated), "occurs as a column more than once")
        return [name for name in names if name in used]

    def check_rows(self, rows: Iterable[Iterable[str]]) -> None:
        """Refuse a mapped column that no row has. A row may lack it, and is read only as far as it is needed.

        :param rows: names of the columns of each row.
        :raises WanValidationError: if there are rows, and none has it.
        """
        missing = {column: name for name, column in self.columns.items() if column is not None}
        names: dict[str, None] = {}
        for row in rows if missing else ():
            for column in row:
                names[column] = None
                missing.pop(column, None)
            if not missing:
                return
        for column, name in missing.items() if names else ():
            rule = f"is not a column of any row; they have {', '.join(names)[:200]}"
            raise WanValidationError(f"columns[{name!r}]", column, rule, "Correct its name")

    def apply(self, values: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
        """Return the fields of a row.

        :param values: values by column.
        :param typed: whether the values have types; else all are text.
        :raises WanValidationError: if a column is likely a typo, or a template cannot be rendered.
        """
        fields = self._fields(values)
        if typed and (problem := suggest_column(*self._unused(values, fields))):
            raise WanValidationError(FIELD, *problem)
        self._check_spelling(values, fields)
        found = {name: values[column] for name, column in fields.items() if column in values}
        for name, template in self._compiled.items():
            text = self._render(name, template, values)
            if not is_missing(text):
                found[name] = parse_cell(name, text) if name in PARAMETERS else text
        return found

    def _fields(self, names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
        """Return the columns by the fields that they are for."""
        fields = {
            name: name
            for name in COLUMNS
            if name in names and name not in self.columns and name not in self.templates and not self._is_other(name)
        }
        return fields | {name: column for name, column in self.columns.items() if column is not None}

    def _is_other(self, name: str) -> bool:
        """Return whether a column is not read because its field is given by the other name, as ``image`` is."""
        given = set(IMAGE_COLUMNS) & (self.columns.keys() | self.templates.keys())
        return name in IMAGE_COLUMNS and bool(given)

    def _unused(
        self, names: Sequence[str] | Mapping[str, Any], fields: Mapping[str, str]
    ) -> tuple[tuple[str, ...], frozenset[str]]:
        """Return the columns that may be typos, and the fields that they can't stand for."""
        used = {*fields.values(), *(self._template_columns or ())}
        unused = tuple(name for name in names if name not in used and name not in COLUMNS)
        given = {*fields, *self.columns, *self.templates}
        for pair in (IMAGE_COLUMNS, AUDIO_COLUMNS):
            if given & {*pair}:
                given |= {*pair}
        return unused, frozenset(given)

    def _check_spelling(self, values: Mapping[str, Any], fields: Mapping[str, str]) -> None:
        """Refuse a row that has a mapped column in another spelling: without its value, it would be paid for."""
        used = set(fields.values())
        for name, column in self.columns.items():
            if column is None or column in values:
                continue
            folded = column.strip().lower()
            if other := next((each for each in values if each.strip().lower() == folded and each not in used), None):
                rule = f"is not a column of this row, which has {other!r}"
                raise WanValidationError(f"columns[{name!r}]", column, rule, "Use one spelling in all rows")

    @cached_property
    def _compiled(self) -> dict[str, Any]:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        _remove_random(environment)
        compiled = {}
        for name, text in self.templates.items():
            try:
                compiled[name] = environment.from_string(text)
            except TemplateError as error:
                rule = f"is not a Jinja template: {error}"
                raise WanValidationError(f"row_templates[{name!r}]", text, rule) from None
        return compiled

    @cached_property
    def _template_columns(self) -> set[str] | None:
        """The columns that the templates name; None if it takes a row to know them."""
        if not self.templates:
            return set()
        from jinja2 import Environment, meta, nodes

        environment = Environment(autoescape=False)
        _remove_random(environment)
        found: set[str] = set()
        for text in self.templates.values():
            tree = environment.parse(text)
            found |= meta.find_undeclared_variables(tree) - {ROW}
            named = 0
            found_nodes: Any = tree.find_all((nodes.Getattr, nodes.Getitem))
            for node in found_nodes:
                if isinstance(node.node, nodes.Name) and node.node.name == ROW:
                    key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
                    if isinstance(key, str):
                        found.add(key)
                        named += 1
            if named != sum(node.name == ROW for node in tree.find_all(nodes.Name)):
                return None
        return found

    def _render(self, name: str, template: Any, values: Mapping[str, Any]) -> str:
        # Without the missing values: one that a template uses is an error, unless the template has a default for it.
        row = {column: value for column, value in values.items() if not is_missing(value)}
        try:
            return str(template.render({**row, ROW: row}))
        except Exception as error:  # a template may raise anything
            raise WanValidationError(
                f"row_templates[{name!r}]", self.templates[name], f"can't be rendered: {error}"[:300]
            ) from None


@dataclass(frozen=True)
class ColumnCollector(ColumnMapping):
    """Maps no column, and collects the names of those of the last row."""

    last_row: list[str] = field(default_factory=list)

    def with_default(self, name: str, column: str) -> ColumnMapping:
        """Return itself.

        :param name: name of the field.
        :param column: name of the column.
        """
        return self

    def apply(self, values: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
        """Collect the names, and return no fields.

        :param values: values by column.
        :param typed: not used.
        """
        self.last_row[:] = values
        return {}


#: Every column is the field of its own name.
BY_NAME = ColumnMapping()


def _remove_random(environment: Any) -> None:
    """Remove what gives another text each time: each attempt reads a row again, and another text is another clip."""
    del environment.filters["random"], environment.globals["lipsum"]


def _parse_mapping(name: str, value: Any, rule: str) -> dict[str, Any]:
    if isinstance(value, str) and value.strip() and value.strip() != "None":
        try:
            value = parse_literal(value)
        except ValueError:
            raise WanValidationError(name, value, rule) from None
    if value is None or value in ("", "None"):
        return {}
    if not isinstance(value, Mapping):
        raise WanValidationError(name, value, rule)
    for each in value:
        if each not in COLUMNS:
            raise WanValidationError(name, each, f"is not a field; the fields are {', '.join(COLUMNS)}")
    if len(set(IMAGE_COLUMNS) & {key for key, each in value.items() if each is not None}) > 1:
        raise WanValidationError(name, "image and img_url", "are two names of one field: give only one of them")
    return dict(value)

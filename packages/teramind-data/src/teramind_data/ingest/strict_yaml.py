"""YAML as people write it for us: plain values, each key once, and no more of them than a person writes.

An alias may stand for ten aliases, each of which stands for ten (the "billion laughs"): written out it fills any
memory. And YAML's own reader takes the last of two equal keys without a word.
"""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["load_strictly"]

_MOST_VALUES = 1_000_000


def load_strictly(text: str) -> Any:
    """The values of a YAML document; yaml.YAMLError where it is none, gives a key twice or is a bomb."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"more than {_MOST_VALUES:,} values once its aliases are written out")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _written_out(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for; each is looked at once."""
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:
            raise yaml.YAMLError("an alias of what it stands in")
        return known
    sizes[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        met: set[str] = set()
        for key, value in node.value:
            if str(key.value) in met:
                raise yaml.YAMLError(
                    f"key {key.value} is given twice, again in line {key.start_mark.line + 1}"
                )
            met.add(str(key.value))
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    size = 1 + sum(_written_out(child, sizes) for child in children)
    sizes[id(node)] = size
    return size

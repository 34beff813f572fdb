"""Annotations in the form of COCO: one row an image, with lists of what is annotated in it."""

import json
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tql.diagnostics import TqlDataError, data_error
from tql.schema import Column, Int, Label, List
from tql.sources.classes import refuse_repeats
from tql.sources.export import arrow_field
from tql.sources.files import File, unreadable

PATH: Final = "file_name"

_BOX: Final = pa.list_(pa.float32(), 4)

_IMAGE: Final = pa.struct(
    [
        ("id", pa.int64()),
        (PATH, pa.string()),
        ("coco_url", pa.string()),
        ("height", pa.int64()),
        ("width", pa.int64()),
    ]
)
_ANNOTATION: Final = pa.struct(
    [
        ("id", pa.int64()),
        ("image_id", pa.int64()),
        ("category_id", pa.int64()),
        ("bbox", pa.list_(pa.float32())),
        ("area", pa.float64()),
        ("iscrowd", pa.int8()),
        ("caption", pa.string()),
    ]
)
_CATEGORY: Final = pa.struct([("id", pa.int64()), ("name", pa.string())])
_FILE: Final = pa.schema(
    [
        ("images", pa.list_(_IMAGE)),
        ("annotations", pa.list_(_ANNOTATION)),
        ("categories", pa.list_(_CATEGORY)),
    ]
)


_HEAD: Final = 1 << 20
_LARGEST: Final = (1 << 31) - 1  # bytes that Arrow parses at once


def is_one_object(file: File) -> bool:
    """Whether a JSON file is one object, over many lines or with COCO's lists, rather than one a line."""
    try:
        with file.open() as handle:
            size = handle.size()
            head: bytes = handle.read_at(min(size, _HEAD), 0).lstrip()
    except (OSError, pa.ArrowException) as e:
        raise unreadable(file.shown, e) from e
    line, newline, _ = head.partition(b"\n")
    if not newline and size > _HEAD:
        return True
    try:
        first = json.loads(line)
    except ValueError:
        return True
    return isinstance(first, dict) and isinstance(first.get("images"), list)


def read_coco(file: File) -> pa.Table:
    """The rows of an annotations file.

    image_id   the image's id              labels    class of each annotation, by category id
    file_name  where its pixels are        boxes     float32 (n, 4): x, y, width, height in pixels
    height     in pixels                   areas     float64 (n,)
    width      in pixels                   iscrowd   int8 (n,)
                                           ids       int64 (n,), ids of the annotations
                                           captions  text (n,)

    What no annotation has is left out, and so are outlines and key points. The file is parsed by
    Arrow, once, into columns.
    """
    parsed = _parsed(file)
    images, annotations = _items(parsed, "images"), _items(parsed, "annotations")
    if not len(images):
        raise _wrong(file, 'it has no list "images" with anything in it')
    ids = _ids(images, "id", "image", file)
    by_id = np.argsort(ids, kind="stable")
    _refuse_repeated(ids[by_id], "images", file)
    owner = by_id[_places(ids[by_id], annotations, "image_id", "image", file)]
    offsets = np.zeros(len(images) + 1, np.int32)
    np.cumsum(np.bincount(owner, minlength=len(images)), out=offsets[1:])
    listed = annotations.take(pa.array(np.argsort(owner, kind="stable")))
    made = [
        (pa.field("image_id", pa.int64()), pa.array(ids)),
        (pa.field(PATH, pa.string()), _paths(images)),
        (pa.field("height", pa.int64()), images.field("height")),
        (pa.field("width", pa.int64()), images.field("width")),
    ]
    for field, values in _of_annotations(listed, _items(parsed, "categories"), file):
        lists = pa.ListArray.from_arrays(pa.array(offsets), values)
        made.append((field, lists.cast(field.type)))
    return pa.Table.from_arrays([a for _, a in made], schema=pa.schema([f for f, _ in made]))


def _parsed(file: File) -> pa.Table:
    from pyarrow import json as arrow_json

    try:
        with file.open() as handle:
            size = handle.size()
            if size >= _LARGEST:
                raise data_error(
                    "source",
                    f"'{file.shown}' has {size:,} bytes; JSON that is one object is read up to "
                    f"{_LARGEST:,}",
                    help="write a row for each image to Parquet, with lists of what is in it",
                )
            return arrow_json.read_json(
                handle,
                arrow_json.ReadOptions(use_threads=False, block_size=max(size, 1)),
                arrow_json.ParseOptions(
                    _FILE, newlines_in_values=True, unexpected_field_behavior="ignore"
                ),
            )
    except (OSError, pa.ArrowException) as e:
        if isinstance(e, pa.ArrowInvalid):
            raise data_error(
                "source",
                f"'{file.shown}' cannot be read: {e}; expected annotations in the form of COCO, an "
                'object with "images", "annotations" and "categories"',
                help="a file with an object a line is named .jsonl",
            ) from e
        raise unreadable(file.shown, e) from e


def _items(parsed: pa.Table, name: str) -> pa.StructArray:
    lists = parsed.column(name).combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0)
    return lists.flatten()


def _ids(items: pa.StructArray, field: str, what: str, file: File) -> NDArray[np.int64]:
    """int64 (n,): a field that every item must have."""
    found = items.field(field)
    if items.null_count or found.null_count:
        missing = pc.call_function("or", [items.is_null(), found.is_null()])
        at = int(np.argmax(missing.to_numpy(zero_copy_only=False)))
        raise _wrong(file, f"{what} {at}, counted from 0, has no {field}")
    ids: NDArray[np.int64] = found.to_numpy()
    return ids


def _refuse_repeated(ids: NDArray[np.int64], what: str, file: File) -> None:
    same = np.flatnonzero(ids[1:] == ids[:-1])
    if same.size:
        raise _wrong(file, f"two {what} have the id {ids[same[0]]}")


def _places(
    known: NDArray[np.int64], annotations: pa.StructArray, field: str, what: str, file: File
) -> NDArray[np.int64]:
    """int64 (n,): the place among `known`, which ascend, of what each annotation is of."""
    wanted = _ids(annotations, field, "annotation", file)
    places = np.searchsorted(known, wanted)
    found = places < len(known)
    found[found] = known[places[found]] == wanted[found]
    if not found.all():
        at = int(np.argmin(found))
        name = annotations.field("id")[at].as_py()
        which = f"annotation {at}, counted from 0," if name is None else f"annotation {name}"
        raise _wrong(file, f"{which} is of {what} {wanted[at]}, which is not in the file")
    return places


def _paths(images: pa.StructArray) -> pa.Array:
    """File names; where there are none, as in LVIS, the folder and the name in the URL."""
    names = images.field(PATH)
    if names.null_count < len(names):
        return names
    pattern = pc.ExtractRegexOptions(r"(?P<path>[^/]+/[^/]+)$")
    return pc.call_function("extract_regex", [images.field("coco_url")], pattern).field("path")


def _of_annotations(
    annotations: pa.StructArray, categories: pa.StructArray, file: File
) -> list[tuple[pa.Field, pa.Array]]:
    """What is known of each annotation: a field for lists of it, and the values one after another."""
    made = []
    if _is_told(annotations, "category_id", file):
        ids = _ids(categories, "id", "category", file)
        order = np.argsort(ids, kind="stable")
        _refuse_repeated(ids[order], "categories", file)
        places = _places(ids[order], annotations, "category_id", "category", file)
        named = categories.take(pa.array(order)).field("name").to_pylist()
        names = tuple(str(i) if n is None else n for i, n in zip(ids[order], named, strict=True))
        refuse_repeats(names, "labels", f"'{file.shown}'")
        field = arrow_field(Column("labels", List(Label(names, Int(64))), False))
        made.append((field, pa.array(places)))
    if _is_told(annotations, "bbox", file):
        made.append((pa.field("boxes", pa.list_(_BOX)), _boxes(annotations, file)))
    for name, field in (
        ("areas", "area"), ("iscrowd", "iscrowd"), ("ids", "id"), ("captions", "caption"),
    ):  # fmt: skip
        values = annotations.field(field)
        if values.null_count < len(values):
            made.append((pa.field(name, pa.list_(values.type)), values))
    return made


def _is_told(annotations: pa.StructArray, field: str, file: File) -> bool:
    """Whether the annotations have the field, all or none of them."""
    values = annotations.field(field)
    if 0 < values.null_count < len(values):
        at = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise _wrong(
            file, f"annotation {annotations.field('id')[at]} has no {field}, and others have"
        )
    return len(values) > 0 and not values.null_count


def _boxes(annotations: pa.StructArray, file: File) -> pa.Array:
    boxes = annotations.field("bbox")
    lengths = pc.call_function("list_value_length", [boxes]).to_numpy()
    wrong = np.flatnonzero(lengths != 4)
    if wrong.size or boxes.flatten().null_count:
        at = int(wrong[0]) if wrong.size else 0
        raise _wrong(
            file,
            f"the bbox of annotation {annotations.field('id')[at]} is {boxes[at]}; expected four "
            "numbers: x, y, width, height",
        )
    return pa.FixedSizeListArray.from_arrays(boxes.flatten(), 4)


def _wrong(file: File, what: str) -> TqlDataError:
    return data_error("source", f"'{file.shown}': {what}", help="mend the annotations")

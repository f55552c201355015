"""Tables and folders as people have them: read as a person would read them, or refused by name."""

import json
import logging
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.core.images import read_rgb
from kryptonite.data.csv_tables import LINE_LIMIT, read_table
from kryptonite.data.layouts import DataConfig, load_folders, load_images, load_test_pairs
from kryptonite.data.pairs import PairConfig, load_pairs, make_pairs, save_pairs
from kryptonite.data.protocol import load_protocol
from kryptonite.data.submission import read_ground_truth, read_submission
from kryptonite.data.table import save_images

pytestmark = pytest.mark.slow

FILES = ("0.jpg", "1.jpg", "k_0.jpg")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Folders of empty files: five people of two photos and a `k_` image each, and four pairs."""
    return lay_out(tmp_path_factory.mktemp("root"))


@pytest.fixture
def own(tmp_path):
    """The same, for one test alone."""
    return lay_out(tmp_path)


@pytest.fixture
def said(caplog):
    """What was logged so far."""
    caplog.set_level(logging.INFO, "kryptonite")
    return lambda: caplog.text


def lay_out(root: Path) -> Path:
    for person in range(5):
        for file in FILES:
            touch(root / "data/train/images" / f"{person:08d}" / file)
    for pair in range(4):
        for number in (0, 1):
            touch(root / "data/test_public/images" / f"{pair:08d}" / f"{number}.jpg")
    return root


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def person(root, number=0):
    return root / "data/train/images" / f"{number:08d}"


def pair(root, number=0):
    return root / "data/test_public/images" / f"{number:08d}"


def write_train(root, rows, header="label,path"):
    (root / "train.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def write_test(root, rows, header="label,path"):
    (root / "test.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def test_rows(count=4):
    return [
        f"{number:08d},data/test_public/images/{number:08d}/{image}.jpg"
        for number in range(count)
        for image in (0, 1)
    ]


test_rows.__test__ = False


def train_rows(people=range(5)):
    return [f"{p:08d},data/train/images/{p:08d}/{file}" for p in people for file in FILES]


def both(root):
    config = DataConfig(str(root))
    return pd.concat([load_images(config, split) for split in ("train", "val")])


# Dialects


def spell(data, table: list[list[str]], lower: list[str]) -> bytes:
    """Writes a table in a dialect that keeps its meaning."""
    delimiter = data.draw(st.sampled_from(",;\t"), "delimiter")
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]), "line end")
    space = data.draw(st.sampled_from(["", " ", "  "]), "spaces")
    quote = data.draw(st.sampled_from(["never", "always", "some"]), "quotes")
    header = data.draw(st.sampled_from([str.lower, str.upper, str.title]), "header")
    index = data.draw(st.sampled_from([None, "", " ", "Unnamed: 0"]), "index column")
    trailing = data.draw(st.booleans(), "trailing delimiter in rows")
    blank = data.draw(st.sampled_from(["", " ", delimiter * 2]), "blank line")
    encoding = data.draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]), "encoding"
    )
    lines = []
    for number, row in enumerate([lower, *table]):
        fields = list(map(header, row)) if number == 0 else list(row)
        if index is not None:
            fields.insert(0, index if number == 0 else str(number - 1))
        quoted = [
            f'"{field}"' if quote == "always" or (quote == "some" and place % 2) else field
            for place, field in enumerate(fields)
        ]
        line = delimiter.join(f"{space}{field}{space}" for field in quoted)
        lines.append(line + (delimiter if trailing and number else ""))
    lines.insert(data.draw(st.integers(1, len(lines)), "place of the blank line"), blank)
    text = end.join(lines) + data.draw(st.sampled_from(["", end]), "last line end")
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    return (mark + text).encode(encoding)


@settings(max_examples=200)
@given(st.data())
def test_load_test_pairs_means_the_same_in_every_dialect(root, tmp_path_factory, data):
    expected = load_test_pairs(root)
    form = data.draw(st.sampled_from(["{}", "{}.0", "{:08d}", "{:03d}"]), "id")
    path = data.draw(
        st.sampled_from(
            [
                "data/test_public/images/{:08d}/{}.jpg",
                "test_public/images/{:08d}/{}.jpg",
                "./data//test_public/images/{:08d}/{}.jpg",
                "data\\test_public\\images\\{:08d}\\{}.jpg",
                "data/train/../test_public/images/{:08d}/{}.jpg",
                str(root / "data/test_public/images/{:08d}/{}.jpg"),
            ]
        ),
        "path",
    )
    ids = data.draw(st.permutations(range(4)), "order")
    rows = [[form.format(each), path.format(each, image), "x"] for each in ids for image in (1, 0)]
    (root / "test.csv").write_bytes(spell(data, rows, ["label", "path", "split"]))
    try:
        pd.testing.assert_frame_equal(load_test_pairs(root), expected)
    finally:
        (root / "test.csv").unlink()


@settings(max_examples=200)
@given(st.data())
def test_load_images_means_the_same_in_every_dialect(root, data):
    rows = [
        [f"{p:08d}", f"data/train/images/{p:08d}/{file}", "val" if p > 2 else "train", synthetic]
        for p in range(5)
        for file, synthetic in zip(FILES, (False, False, True), strict=True)
    ]
    yes, no = data.draw(
        st.sampled_from([("True", "False"), ("true", "false"), ("1", "0"), ("1.0", "0.0")])
        | st.just(("yes", "no")),
        "booleans",
    )
    val = data.draw(st.sampled_from(["val", "valid", "Validation"]), "name of validation")
    spelled = [
        [label, path, val if split == "val" else split, yes if synthetic else no]
        for label, path, split, synthetic in rows
    ]
    side = data.draw(st.sampled_from(["train", "val"]), "split")
    (root / "train.csv").write_bytes(
        spell(data, spelled, ["label", "path", "split", "is_synthetic"])
    )
    try:
        images = load_images(DataConfig(str(root)), side)
    finally:
        (root / "train.csv").unlink()
    assert [
        [image.label, os.path.relpath(image.path, root), image.split, image.is_synthetic]
        for image in images.itertuples()
    ] == [row for row in rows if row[2] == side]


def corrupt(data, lines: list[str]) -> tuple[list[str], str]:
    """Damages one row of a table in a way that no reader can put right; gives the message too."""
    row = data.draw(st.integers(1, len(lines) - 1), "row")
    label, path = lines[row].split(",")[:2]
    line, message = data.draw(
        st.sampled_from(
            [
                (f",{path}", "label is empty"),
                (f"nan,{path}", "label is empty"),
                (f"{label},", "path is empty"),
                (label, "path is empty"),
                (f"{label},  ", "path is empty"),
                (f"{label},{path},surplus", "surplus"),
                (f"0,{label},{path}", "surplus"),
                (f'{label},"{path}', "quote"),
                (f'"{label},{path}', "quote"),
                (f'{label},"{path}"x', "quote"),
                (f"{label},{path}\0", "NUL"),
                (f"{label},data/{'x' * 300}/0.jpg", "too long"),
                (f"{label},{'data/' * 1000}0.jpg", "too long"),
                (f"{label},{'x' * LINE_LIMIT}", "longer than"),
                (f"000000001,{path}", "up to eight digits"),
                (f"x1,{path}", "up to eight digits"),
                (f"-1,{path}", "up to eight digits"),
                (f"1.5,{path}", "up to eight digits"),
                (f"١,{path}", "up to eight digits"),
                (f"{label}\udce9,{path}", "not UTF-8"),
            ]
        ),
        "corruption",
    )
    return [*lines[:row], line, *lines[row + 1 :]], rf"test\.csv, row {row}: .*{message}"


@settings(max_examples=200)
@given(st.data())
def test_load_test_pairs_names_the_row_when_it_is_corrupt(root, data):
    lines, message = corrupt(data, ["label,path", *test_rows()])
    (root / "test.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    try:
        with pytest.raises(DataError, match=message) as caught:
            load_test_pairs(root)
    finally:
        (root / "test.csv").unlink()
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.text(' ,;\t"\r\n01abel,pth.jg\\', max_size=200).map(str.encode))
def test_loaders_raise_nothing_but_data_error_whatever_a_table_holds(root, content):
    loaders = {
        "test.csv": load_test_pairs,
        "train.csv": both,
        "gt.csv": lambda root: load_protocol(root / "gt.csv", root),
        "s.csv": lambda root: read_submission(root / "s.csv"),
    }
    headers = {"test.csv": b"label,path\n", "train.csv": b"label,path\n"}
    for name, load in loaders.items():
        for start in (b"", headers.get(name, b"pair_id,similarity\n")):
            (root / name).write_bytes(start + content)
            try:
                with pytest.raises(DataError, match=name):
                    load(root)
            finally:
                (root / name).unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"test\.csv: is empty"),
        (b"\n , \n", r"test\.csv: is empty"),
        (b"label,path\n", "contains no rows"),
        (b"label,path,Label\n0,x,y\n", "names column label twice"),
        (b'label,"path\n', "header: a quote opens"),
        ("label,path\n0,x\n".encode("utf-16-le"), "header: holds a NUL"),
        ("label,path\n0,x\n".encode("utf-16")[:-1], "not whole UTF-16"),
        (b"l\xe9bel,path\n", r"header: is not UTF-8 \(byte 0xe9\)"),
        (b"x" * (LINE_LIMIT + 1), "header: longer than"),
        (b"0,data/0.jpg\n", "column label, path is missing; found 0, data/0.jpg"),
    ],
)
def test_read_table_names_the_file_when_it_is_no_table(tmp_path, content, message):
    (tmp_path / "test.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_test_pairs(tmp_path)


def test_read_table_reads_quoted_delimiters_and_quotes(tmp_path):
    (tmp_path / "t.csv").write_text('a, b ,c\n"x, ""y""" ,z"z,\n')
    table = read_table(tmp_path / "t.csv", ["a"])
    assert table.to_dict("records") == [{"a": 'x, "y"', "b": 'z"z', "c": ""}]


def test_load_test_pairs_refuses_a_quote_that_closes_rows_later(own):
    rows = test_rows()
    rows[2] = rows[2].replace(",", ',"')
    rows[4] += '"'
    write_test(own, rows)
    with pytest.raises(DataError, match=r"test\.csv, row 3: a quote opens"):
        load_test_pairs(own)


# Paths


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_loaders_refuse_tables_when_most_files_do_not_exist(own, kept):
    rows = test_rows()
    write_test(own, [*rows[:kept], *(row.replace(".jpg", ".png") for row in rows[kept:])])
    first = rf"0000000{kept // 2}/{kept % 2}\.png"
    with pytest.raises(
        DataError, match=rf"test\.csv.*{'row 1' if not kept else f'{8 - kept} of 8'}"
    ):
        load_test_pairs(own)
    with pytest.raises(DataError, match=first):
        load_test_pairs(own)
    rows = train_rows()
    write_train(own, [rows[0], *(row.replace("images", "pictures") for row in rows[1:])])
    with pytest.raises(DataError, match=r"14 of 15 files do not exist.*row 2: data/train/pictures"):
        both(own)


def test_loaders_keep_rows_when_half_of_the_files_are_missing(own):
    rows = test_rows()
    write_test(own, [*rows[:4], *(row.replace(".jpg", ".png") for row in rows[4:])])
    pairs = load_test_pairs(own)
    assert pairs["path_a"].map(os.path.exists).tolist() == [True, True, False, False]


def test_load_test_pairs_refuses_folders_when_most_images_are_missing(own):
    for number in range(3):
        for image in (0, 1):
            (pair(own, number) / f"{image}.jpg").unlink()
    with pytest.raises(DataError, match=r"images: 6 of 8 files do not exist.*00000000/0\.jpg"):
        load_test_pairs(own)


def test_load_test_pairs_finds_files_whose_names_hold_spaces_and_backslashes(own):
    odd = [touch(own / "odd" / name) for name in ("0 .jpg ", "a\\1.jpg")]
    write_test(own, [*test_rows(), "9,odd/0 .jpg ", "9,odd/a\\1.jpg"])
    last = load_test_pairs(own).iloc[-1]
    assert {last["path_a"], last["path_b"]} == set(map(str, odd))


def test_load_test_pairs_finds_files_whose_accents_are_decomposed(own):
    odd = [touch(own / "e\u0301" / f"{number}.jpg") for number in (0, 1)]
    write_test(own, [*test_rows(), "9,\xe9/0.jpg", "9,\xe9/1.jpg"])
    assert load_test_pairs(own).iloc[-1].tolist() == ["00000009", *map(str, odd)]


def test_load_test_pairs_follows_paths_out_of_the_root(own, tmp_path_factory):
    elsewhere = lay_out(tmp_path_factory.mktemp("elsewhere"))
    out = os.path.relpath(elsewhere, own)
    write_test(own, [row.replace("data/", f"{out}/data/") for row in test_rows()])
    assert load_test_pairs(own)["path_a"].str.startswith(str(elsewhere)).all()


# Pairs


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,a/0.jpg"], "row 1: pair 00000001 has 1 rows instead of two"),
        (
            ["1,a/0.jpg", "01,a/1.jpg", "1.0,a/2.jpg"],
            "row 1: pair 00000001 has 3 rows instead of two",
        ),
        (["1,a/0.jpg", "1,./a/0.jpg"], "row 2: pair 00000001 names the same file twice"),
    ],
)
def test_load_test_pairs_names_pair_and_row_when_it_is_not_two_images(tmp_path, rows, message):
    for number in range(3):
        touch(tmp_path / f"a/{number}.jpg")
    write_test(tmp_path, rows)
    with pytest.raises(
        DataError, match=rf"test\.csv, {message}" if "row" in message[:4] else message
    ):
        load_test_pairs(tmp_path)


@pytest.mark.parametrize(
    "name", ["1.JPG", "1.Jpg", "1.PNG", "1.jfif", "1.tif", "1.TIFF", "1.avif", "1.xyz", "1"]
)
def test_load_test_pairs_finds_an_image_whatever_its_suffix(own, name):
    os.rename(pair(own) / "1.jpg", pair(own) / name)
    touch(pair(own) / "notes.txt")
    pairs = load_test_pairs(own)
    assert pairs.iloc[0].tolist() == ["00000000", str(pair(own) / "0.jpg"), str(pair(own) / name)]


def test_load_test_pairs_prefers_the_image_when_a_note_has_its_name(own, save, faces):
    for name in ("0.txt", "1.json"):
        touch(pair(own) / name)
    os.rename(save(pair(own, 1) / "x.png", faces[0]), pair(own, 1) / "0.dat")
    (pair(own, 1) / "0.jpg").unlink()
    touch(pair(own, 1) / "0.txt")
    pairs = load_test_pairs(own)
    assert pairs["path_a"].tolist()[:2] == [
        str(pair(own) / "0.jpg"),
        str(pair(own, 1) / "0.dat"),
    ]


def test_load_test_pairs_refuses_two_files_that_could_be_one_image(own, save, faces):
    touch(pair(own, 2) / "0.PNG")
    with pytest.raises(DataError, match=r"00000002: 0\.PNG and 0\.jpg could both be image 0"):
        load_test_pairs(own)
    (pair(own, 2) / "0.PNG").unlink()
    os.rename(save(pair(own, 2) / "x.png", faces[0]), pair(own, 2) / "0.dat")
    with pytest.raises(DataError, match=r"00000002: 0\.dat and 0\.jpg could both be image 0"):
        load_test_pairs(own)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "b.png"], r"named 0 and 1 \(0\.jpg.*holds 2: a\.png, b\.png"),
        (["0.jpg", "b.png"], r"holds 2: 0\.jpg, b\.png"),
        (["0.jpg", "1.jpg", "2.jpg"], r"holds 3: 0\.jpg, 1\.jpg, 2\.jpg"),
        (["00.jpg", "01.jpg"], r"holds 2: 00\.jpg, 01\.jpg"),
        (["a.heic", "b.heic"], r"holds 2: a\.heic, b\.heic"),
        (["notes.txt"], r"holds 1: notes\.txt"),
    ],
)
def test_load_test_pairs_says_which_images_it_expects_and_finds(own, names, message):
    for file in pair(own, 3).iterdir():
        file.unlink()
    for name in names:
        touch(pair(own, 3) / name)
    with pytest.raises(DataError, match=f"00000003: .*{message}"):
        load_test_pairs(own)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            {"0.heic": HEIC, "1.HEIC": HEIC},
            r"0\.heic \(HEIC images are not supported\) and 1\.HEIC \(HEIC images are",
        ),
        ({"1.heif": HEIC}, r"1\.heif \(HEIC images are not supported\); a pair's"),
        ({"0": b"qoif" + bytes(99), "1.txt": b"see the archive " * 9}, r"QOI.* and .*a text file"),
    ],
)
def test_load_test_pairs_says_what_it_is_when_no_file_of_a_pair_is_an_image(own, contents, message):
    for file in pair(own, 3).iterdir():
        file.unlink()
    for name, content in contents.items():
        (pair(own, 3) / name).write_bytes(content)
    with pytest.raises(DataError, match=f"00000003: cannot read .*{message}"):
        load_test_pairs(own)


def test_load_test_pairs_leaves_a_single_unreadable_image_to_scoring(own):
    (pair(own, 3) / "1.jpg").unlink()
    (pair(own, 3) / "1.heic").write_bytes(HEIC)
    pairs = load_test_pairs(own)
    assert pairs.iloc[3].tolist()[1:] == [str(pair(own, 3) / name) for name in ("0.jpg", "1.heic")]
    with pytest.raises(ImageReadError, match="HEIC images are not supported"):
        read_rgb(pairs.iloc[3]["path_b"])


def test_load_test_pairs_names_folders_that_are_no_pair_or_the_same_pair(own):
    touch(own / "data/test_public/images/1/0.jpg")
    with pytest.raises(DataError, match="folders 00000001 and 1 are both pair 00000001"):
        load_test_pairs(own)
    touch(own / "data/test_public/images/00x/0.jpg")
    with pytest.raises(DataError, match="the folder '00x' is not named by a pair id") as caught:
        load_test_pairs(own)
    assert "row" not in str(caught.value)


def test_load_test_pairs_refuses_an_empty_folder(tmp_path):
    (tmp_path / "data/test_public/images").mkdir(parents=True)
    with pytest.raises(DataError, match="contains no pairs"):
        load_test_pairs(tmp_path)


# Hidden and system entries, links, names

SYSTEM = [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", ".DS_Store", "Thumbs.db"]
SYSTEM += ["desktop.ini", "._0.jpg", "._k_0.jpg", "$RECYCLE.BIN"]


@pytest.mark.parametrize("where", ["", "00000000"])
@pytest.mark.parametrize("name", SYSTEM)
def test_loaders_ignore_system_entries_and_count_them(own, where, name, said):
    images, pairs = load_folders(own), load_test_pairs(own)
    for base in ("data/train/images", "data/test_public/images"):
        if name.endswith((".jpg", ".DS_Store", ".db", ".ini")):
            touch(own / base / where / name)
        else:
            touch(own / base / where / name / "0.jpg")
        touch(own / base / where / "__MACOSX" / "0.jpg")
    pd.testing.assert_frame_equal(load_folders(own), images)
    pd.testing.assert_frame_equal(load_test_pairs(own), pairs)
    assert said().count("hidden or system entr") == 2


def test_load_folders_counts_what_it_leaves_out(own, said):
    images = load_folders(own)
    assert said() == ""
    touch(person(own) / "album/more/7.jpg")
    touch(person(own) / "album/8.png")
    touch(person(own, 1) / "9.heic")
    touch(person(own, 1) / "notes")
    touch(own / "data/train/images/loose.jpg")
    touch(own / "data/train/00000009/0.jpg")
    (own / "data/train/images/nobody").mkdir()
    pd.testing.assert_frame_equal(load_folders(own), images)
    load_folders(own)
    for part in (
        "left out 2 photos in a folder below a person's (00000000/album/8.png, 00000000/album/more",
        "left out 2 files whose suffix is not that of an image (.heic 1, no suffix 1)",
        "left out 1 photo beside the folders, of no person or pair (loose.jpg)",
        "left out 1 folder with photos beside",
        "left out 1 folder without a photo of its own (nobody)",
    ):
        assert said().count(part) == 1


def test_load_folders_follows_links_and_ends_when_they_run_in_circles(own, tmp_path_factory):
    away = touch(tmp_path_factory.mktemp("away") / "anna/5.jpg")
    images = load_folders(own)
    folder = own / "data/train/images"
    (folder / "anna").symlink_to(away.parent)
    (folder / "all").symlink_to(folder)
    (person(own) / "up").symlink_to(folder)
    (person(own) / "loop").symlink_to("loop")
    (folder / "loop").symlink_to("loop")
    linked = load_folders(own)
    assert linked["path"].tolist() == [*images["path"], str(away)]
    assert linked["label"].iloc[-1] == "anna"


def test_loaders_name_escaped_what_is_not_utf8(own):
    file = os.fsencode(person(own)) + b"/caf\xe9.jpg"
    Path(os.fsdecode(file)).touch()
    with pytest.raises(DataError, match=r"caf\\xe9\.jpg: the name is not UTF-8"):
        load_folders(own)
    Path(os.fsdecode(os.fsencode(pair(own)) + b"/1\xe9.jpg")).touch()
    with pytest.raises(DataError, match=r"1\\xe9\.jpg: the name is not UTF-8"):
        load_test_pairs(own)


def test_save_images_refuses_names_with_a_line_break(own):
    touch(person(own) / "a\nb.jpg")
    images = load_folders(own)
    with pytest.raises(DataError, match=r"a\\nb\.jpg.*line break"):
        save_images(own / "train.csv", images)
    assert not (own / "train.csv").exists()


def test_load_folders_names_the_photo_when_two_lead_to_one_file(own):
    (person(own, 1) / "5.jpg").symlink_to(person(own) / "0.jpg")
    with pytest.raises(DataError, match=r"images, 00000001/5\.jpg: column path: stands twice"):
        load_folders(own)


# meta.json and species.json


def classes(root):
    images = load_folders(root)
    return [
        os.path.relpath(p, root / "data/train/images")
        for p in images["path"][images["is_synthetic"]]
    ]


@pytest.mark.parametrize(
    "form",
    [
        "{:08d}/{}.jpg",
        "{:07d}/{}.jpg",
        "{}/{}.jpg",
        "images/{:08d}/{}.jpg",
        "data/train/images/{:08d}/{}.jpg",
        "./train/{:08d}/{}.jpg",
        "/home/me/data/train/images/{}/{}.jpg",
        "{:08d}\\{}.jpg",
        "images\\{:08d}\\{}.JPG",
        "{:08d}/{}",
        " {:08d}/{}.jpg",
    ],
)
def test_load_folders_reads_annotations_whatever_their_keys_look_like(own, form):
    meta = {form.format(p, stem): int(stem == "1") for p in range(5) for stem in ("0", "1", "k_0")}
    (own / "data/train/meta.json").write_text(json.dumps(meta))
    (own / "data/train/species.json").write_text(json.dumps({form.format(2, "1"): "swap"}))
    assert classes(own) == [f"{p:08d}/1.jpg" for p in range(5)]
    images = load_folders(own)
    assert images.loc[images["species"] == "swap", "path"].tolist() == [
        str(person(own, 2) / "1.jpg")
    ]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (
            {"00000000/0.jpg": 0, "00000009/0.jpg": 1, "x": 0},
            "'00000009/0.jpg' matches no image; of 3 keys 2",
        ),
        ({"00000000/0.png": 1}, "'00000000/0.png' matches no image; of 1 key 1"),
        ({"a/b/00000000/0.jpg": 1}, "matches no image"),
        ({"0/0.jpg": 0, "00000000/0.jpg": 1}, "mean the same image and contradict each other"),
        ({"00000000/0.jpg": "forged"}, "must be 0 .* got 'forged'"),
        ({"00000000/0.jpg": None}, "must be 0 .* got None"),
        ({"00000000": {"0.jpg": 1}}, "must be 0"),
    ],
)
def test_load_folders_names_the_key_when_it_matches_no_image(own, meta, message):
    (own / "data/train/meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=rf"meta\.json: .*{message}"):
        load_folders(own)


def test_load_folders_refuses_keys_that_could_mean_two_images(own):
    touch(person(own) / "0.png")
    (own / "data/train/meta.json").write_text('{"00000000/0": 1}')
    with pytest.raises(DataError, match="matches no image"):
        load_folders(own)


def test_load_folders_refuses_species_that_match_nothing_or_are_no_text(own):
    for content in (
        '{"00000009/0.jpg": "swap"}',
        '{"00000000/0.jpg": 1}',
        '{"0/0.jpg": "\\ud800"}',
    ):
        (own / "data/train/species.json").write_text(content)
        with pytest.raises(DataError, match=r"species\.json: "):
            load_folders(own)


def test_load_folders_falls_back_to_names_and_says_so_when_meta_json_is_partial(own, said):
    (own / "data/train/meta.json").write_text(json.dumps({"0/0.jpg": 1, "0/1.jpg": "0"}))
    assert classes(own) == ["00000000/0.jpg", *(f"{p:08d}/k_0.jpg" for p in range(5))]
    load_folders(own)
    assert said().count("says nothing of 13 of 15 images, first 00000000/k_0.jpg") == 1


def test_load_images_reads_meta_json_that_describes_more_than_the_table(own):
    meta = {f"{p}/{file}": int(file == "1.jpg") for p in range(5) for file in FILES}
    (own / "data/train/meta.json").write_text(json.dumps(meta))
    write_train(own, train_rows(range(3)))
    assert both(own)["is_synthetic"].sum() == 3
    (own / "data/train/meta.json").write_text(json.dumps({**meta, "9/0.jpg": 1}))
    with pytest.raises(DataError, match="'9/0.jpg' matches no image; of 16 keys 1"):
        both(own)


def test_load_folders_takes_capital_k_for_synthetic(own):
    for p in range(5):
        os.rename(person(own, p) / "k_0.jpg", person(own, p) / "K_0.JPG")
    assert classes(own) == [f"{p:08d}/K_0.JPG" for p in range(5)]


# Labels and splits


def test_load_images_strips_and_composes_labels(own):
    rows = train_rows(range(3))
    rows[1] = rows[1].replace("00000000,", '"00000000 ",')
    write_train(
        own,
        [
            *rows,
            "\xe9,data/train/images/00000003/0.jpg",
            "e\u0301,data/train/images/00000003/1.jpg",
        ],
    )
    assert set(both(own)["label"]) == {"00000000", "00000001", "00000002", "\xe9"}


def test_load_images_warns_of_labels_that_are_probably_one_person(own, said):
    rows = [row.replace("00000001,", "000000,") for row in train_rows()]
    write_train(own, rows)
    assert both(own)["label"].nunique() == 5
    assert "labels '000000' and '00000000' are probably the same person (1 such group)" in said()


def test_load_images_warns_of_people_in_both_tables(own, said):
    write_train(own, train_rows(range(3)))
    (own / "val.csv").write_text("\n".join(["label,path", *train_rows((2, 3))]))
    both(own)
    assert "1 person is in both the training and the validation data, first '00000002'" in said()


def test_load_images_uses_the_split_column_when_it_names_validation(own, said):
    rows = [f"{row},{'Valid' if p > 2 else 'train'}" for p in range(5) for row in train_rows([p])]
    write_train(own, rows, "label,path,split")
    train, val = (load_images(DataConfig(str(own)), split) for split in ("train", "val"))
    assert set(train["label"]) == {f"{p:08d}" for p in range(3)} and len(val) == 6
    assert set(val["split"]) == {"val"} and said() == ""
    rows[1] = rows[1].replace(",train", ",val")
    write_train(own, rows, "label,path,split")
    both(own)
    assert "1 person is in both" in said()


def test_load_images_names_the_row_when_its_split_is_unknown(own):
    rows = [f"{row},{'val' if p > 2 else 'train'}" for p in range(5) for row in train_rows([p])]
    rows[4] = rows[4].replace(",train", ",gallery")
    write_train(own, rows, "label,path,split")
    with pytest.raises(DataError, match="row 5: split must be train or val, got 'gallery'"):
        both(own)
    write_train(own, [f"{row},test" for row in train_rows()], "label,path,split")
    with pytest.raises(DataError, match="row 1: split is 'test'"):
        both(own)
    write_train(own, [f"{row},val" for row in train_rows()], "label,path,split")
    with pytest.raises(DataError, match="calls all rows validation"):
        both(own)


def test_load_images_names_the_row_when_a_boolean_is_none(own):
    rows = [f"{row},{int('k_' in row)}" for row in train_rows()]
    rows[3] = rows[3][:-1] + "maybe"
    write_train(own, rows, "label,path,is_synthetic")
    with pytest.raises(DataError, match="row 4: is_synthetic must be True or False, got 'maybe'"):
        both(own)
    rows[3] = rows[3][: -len("maybe")]
    write_train(own, rows, "label,path,is_synthetic")
    with pytest.raises(DataError, match="row 4: is_synthetic is empty"):
        both(own)


# Tables that are older than the folders


def write_prepared(root):
    """Writes the tables as `kryptonite prepare` does."""
    pairs = load_test_pairs(root)
    images = {split: load_images(DataConfig(str(root)), split) for split in ("train", "val")}
    for split, frame in images.items():
        save_images(root / f"{split}.csv", frame)
    rows = [(p.pair_id, each) for p in pairs.itertuples() for each in (p.path_a, p.path_b)]
    save_images(
        root / "test.csv", pd.DataFrame(rows, columns=["label", "path"]).assign(split="test")
    )
    (root / "audit.json").write_text("{}")
    return images


def test_loaders_notice_folders_that_prepared_tables_lack(own, said):
    images, pairs = write_prepared(own), load_test_pairs(own)
    pd.testing.assert_frame_equal(both(own), pd.concat(images.values()))
    assert said() == ""
    touch(pair(own, 9) / "0.jpg")
    touch(person(own, 9) / "0.jpg")
    with pytest.raises(DataError, match="lacks 1 pair of .*first 00000009.*`kryptonite prepare`"):
        load_test_pairs(own)
    both(own)
    assert said().count("lacks 1 person of") == 1 and "`kryptonite prepare`" in said()
    (own / "test.csv").unlink()
    assert len(load_test_pairs(own)) == len(pairs) + 1


def test_load_images_notices_photos_that_prepared_tables_lack(own, said):
    write_prepared(own)
    for number in (7, 8):
        touch(person(own, 1) / f"{number}.jpg")
    touch(person(own, 0) / "k_7.jpg")
    images = both(own)
    assert not images["path"].str.contains("7.jpg").any()
    lines = [line for line in said().splitlines() if "lacks" in line]
    (line,) = lines
    assert "lacks 3 photos of" in line and line.count("00000000/k_7.jpg") == 1
    assert "only the tables' photos are read" in line and "`kryptonite prepare`" in line


def test_load_images_takes_photos_that_cleaning_dropped_for_listed(own, said):
    write_prepared(own)
    rows = (own / "train.csv").read_text().splitlines()
    dropped = rows.pop(1)
    (own / "train.csv").write_text("\n".join(rows))
    both(own)
    assert "lacks 1 photo of" in said()
    path = dropped.split(",")[1]
    (own / "cleaning.csv").write_text(f"path,label,action\n{path},1,drop\n")
    before = said()
    both(own)
    assert said() == before


def test_load_images_names_the_row_when_a_label_is_too_long(own):
    rows = train_rows()
    rows[2] = f"{'x' * 256},{rows[2].split(',', 1)[1]}"
    write_train(own, rows)
    with pytest.raises(DataError, match=r"row 3: label is longer than 255 characters"):
        both(own)


def test_loaders_warn_of_folders_that_tables_by_hand_lack(own, said):
    write_test(own, test_rows(3))
    assert len(load_test_pairs(own)) == 3
    assert "lacks 1 pair of" in said() and "only the table's pairs are read" in said()


# Frozen pairs, submissions, ground truths


@pytest.fixture(scope="session")
def drawn(root):
    return make_pairs(load_folders(root), PairConfig(count=20))


@settings(max_examples=100)
@given(st.data())
def test_load_protocol_recognises_frozen_pairs_in_every_dialect(root, drawn, data):
    pairs = drawn
    save_pairs(root / "pairs.csv", pairs, root)
    lines = [line.split(",") for line in (root / "pairs.csv").read_text().splitlines()]
    first = data.draw(st.sampled_from(range(len(lines[0]))), "first column")
    lines = [[*line[first:], *line[:first]] for line in lines]
    (root / "pairs.csv").write_bytes(spell(data, lines[1:], lines[0]))
    pd.testing.assert_frame_equal(load_protocol(root / "pairs.csv", root), pairs)


def test_load_protocol_refuses_frozen_pairs_when_the_root_is_another(root, drawn, tmp_path):
    pairs = drawn
    save_pairs(tmp_path / "pairs.csv", pairs, root)
    assert len(load_pairs(tmp_path / "pairs.csv", tmp_path)) == len(pairs)
    with pytest.raises(DataError, match="files do not exist"):
        load_protocol(tmp_path / "pairs.csv", tmp_path)


def test_readers_take_spreadsheet_ids_and_refuse_values_in_plain_words(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("Pair_ID;Similarity\n1.0;0.5\n00000002;-1e3\n")
    assert read_submission(path).to_dict("list") == {
        "pair_id": ["00000001", "00000002"],
        "similarity": [0.5, -1000.0],
    }
    for content, message in (
        ("pair_id,label\n1,-1\n", "row 1: label must be 0 or 1, got -1$"),
        ("pair_id,label\n1,0\n000000002,1\n", "row 2: pair id '000000002' is not"),
        ("pair_id,label\n1,0\n1.0,1\n", "row 2: pair_id occurs twice"),
        ("pair_id,label\n,0\n", "row 1: pair_id is empty"),
        ("pair_id,label\n1,\n", "row 1: label is not a finite number"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_ground_truth(path)

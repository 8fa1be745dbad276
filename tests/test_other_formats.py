"""Tests of files that have another format than expected: the message names it and the remedy."""

import bz2
import io
import lzma
import zipfile

import pytest

from theseus.errors import UserError
from theseus.inputs import reading, rows, sources, tasks
from theseus.inputs.reading import Example

TASK = tasks.TASKS["lcqmc_pair"]
TSV = tasks.of_one_text(tasks.TASKS["custom"])


def archive(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as writer:
        for name in names:
            # Of a fixed time: the workers of a test run must name their tests alike.
            writer.writestr(zipfile.ZipInfo(name), "x" * 9000)
    return content.getvalue()


@pytest.mark.parametrize("name", ["test.tsv", "test.csv", "test.jsonl", "test"])
@pytest.mark.parametrize(
    "content, message",
    [
        (
            archive("[Content_Types].xml", "docProps/app.xml", "xl/workbook.xml"),
            "n Excel workbook .*xlsx",
        ),
        (archive("mimetype", "content.xml"), "n OpenDocument file .*save it as CSV UTF-8"),
        (archive("train.tsv"), " zip archive; unpack it first"),
        (b"PK\3\4 and no archive", " zip archive; unpack it first"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "n Excel workbook .*xls.*CSV UTF-8"),
        (b"PAR1\x15\x04", " Parquet file; convert it to CSV or JSON Lines"),
        (b"\x1f\x8b\x08\0\0\0\0\0", " gzip file; decompress it first"),
        (bz2.compress(b"a\tb\t1\n"), " bzip2 file; decompress it first"),
        (lzma.compress(b"a\tb\t1\n"), "n xz file; decompress it first"),
        (b"\x28\xb5\x2f\xfd\x04X1\0", " zstd file; decompress it first"),
    ],
)
def test_what_is_no_text_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    for skips in (False, True):
        form = sources.ReadOptions(skip_bad_lines=skips)
        with pytest.raises(UserError, match="%s: is a%s" % (name, message)):
            reading.read_examples(str(path), TASK, labels_required=False, form=form)


@pytest.mark.parametrize("text", ['[{"text": "a"}]', '\ufeff[\n  {"text": "a"}\n]\n', " \n[[1]]\n"])
def test_a_json_array_is_named_with_what_makes_json_lines_of_it(tmp_path, text):
    path = tmp_path / "train.json"
    path.write_text(text, encoding="utf-8")
    for skips in (False, True):
        form = sources.ReadOptions(skip_bad_lines=skips)
        with pytest.raises(
            UserError, match=r"train.json: is a JSON array, .*; convert it with jq -c '\.\[\]' "
        ):
            reading.read_examples(str(path), TASK, form=form)


def test_a_text_that_begins_as_an_array_or_an_archive_is_a_text(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text("[1]\tPK\nPKW\tsep=,\n", encoding="utf-8")
    found = reading.read_examples(str(path), TASK, labels_required=False)
    assert found == [Example("[1]", "PK", None), Example("PKW", "sep=,", None)]


@pytest.mark.parametrize(
    "name, text, remedy",
    [
        ("a.csv", "text;label\ngood, bad;1\n", '--format=csv --delimiter=";" reads'),
        ("a.csv", '"text";"label"\n"good";"1"\n', '--format=csv --delimiter=";" reads'),
        ("a.tsv", "id;text;label\n1;good;1\n", '--format=csv --delimiter=";" reads'),
        ("a.csv", "text\tlabel\ngood\t1\n", "--format=tsv reads"),
        ("a.csv", '"text"\t"label"\n"good"\t1\n', "--format=csv --delimiter=tab reads"),
        ("a.csv", "text|label\ngood|1\n", '--format=csv --delimiter="|" reads'),
        ("a.tsv", "text,label\ngood,1\n", "--format=csv reads"),
        ("a.csv", '{"text": "good", "label": 1}\n', "--format=jsonl reads"),
        ("a.tsv", '[{"text": "good", "label": 1}]\n', "it may be a JSON array, "),
    ],
)
def test_what_separates_is_named_with_the_flags_that_read_it(tmp_path, name, text, remedy):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="%s, line 1: .*; %s" % (name, remedy.replace("|", "[|]"))):
        reading.read_examples(str(path), TSV)


@pytest.mark.parametrize("delimiter, said", [(None, "commas"), ("tab", "tabs"), (";", ";")])
def test_a_message_says_what_separates(tmp_path, delimiter, said):
    path = tmp_path / "a.csv"
    by = rows.delimiter_of(delimiter)
    form = sources.ReadOptions(format="csv", delimiter=delimiter)
    for text, message in [
        ("a\n", "text_b, label, sep"),
        (by.join("ab1") + "\na", "3 columns, sep"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match="expected .*%sarated by %s[;,] " % (message, said)):
            reading.read_examples(str(path), TASK, form=form)


@pytest.mark.parametrize("given, delimiter", [(";", ";"), ("tab", "\t"), ("\\t", "\t"), ("|", "|")])
def test_csv_with_another_delimiter(tmp_path, given, delimiter):
    path = tmp_path / "a.txt"
    lines = [["text", "label"], ['"a%sb, ""c"""' % delimiter, "1"], ['"two\nlines"', "0"]]
    path.write_text("".join(delimiter.join(line) + "\n" for line in lines), encoding="utf-8")
    form = sources.ReadOptions(format="csv", delimiter=given)
    found = reading.read_examples(str(path), TSV, form=form)
    expected = [Example('a%sb, "c"' % delimiter, None, "1"), Example("two\nlines", None, "0")]
    assert found == expected
    cells = ["a%sb" % delimiter, "c,d"]
    written = rows.write_row(["x", "y"], cells, "csv", rows.delimiter_of(given))
    assert written == '"a%sb"%sc,d\n' % (delimiter, delimiter)
    recorded = {"format": "csv", "delimiter": given}
    form = sources.recorded_options(recorded, str(path))
    assert reading.read_examples(str(path), TSV, form=form) == expected


@pytest.mark.parametrize("given", ["", ";;", '"', "\n", " ", "\0", "\udc80"])
def test_what_cannot_separate_is_none(given):
    assert not rows.is_delimiter(given) and rows.is_delimiter(";")


@pytest.mark.parametrize(
    "line, name, remedy",
    [
        ("sep=,", "a.csv", "delete the line$"),
        ("sep=;", "a.csv", 'delete the line; --format=csv --delimiter=";" reads'),
        ("sep=\t", "a.csv", "delete the line; --format=tsv reads"),
        ("sep=,", "a.tsv", "delete the line; --format=csv reads"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_separator_that_excel_notes_is_named(tmp_path, line, name, remedy, end):
    path = tmp_path / name
    path.write_bytes(("\ufeff" + line + end + "text,label" + end + "good,1" + end).encode("utf-8"))
    with pytest.raises(
        UserError, match=r'%s, line 1: "sep=.*" is a note of Excel.*%s' % (name, remedy)
    ):
        reading.read_examples(str(path), TSV)

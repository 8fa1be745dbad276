"""Lines of a file: where they end, and encodings."""

import io

import pytest

from theseus.inputs import lines

CHINESE = "手机坏了怎么办\t手机坏了应该怎么修\t1\n我想买一台电脑\t哪里可以买电脑\t0\n"
TRADITIONAL = "手機壞了怎麼辦\t手機壞了應該怎麼修\t1\n我想買一部電腦\t哪裡可以買電腦\t0\n"
JAPANESE = "この本は面白いです\tこれはとても良い本です\t1\n"
KOREAN = "이 영화 정말 재미있어요\t오늘 날씨가 좋습니다 어디로 갈까요\t1\n"
FRENCH = "le café était très bon\tl'été à la plage\t1\n"


def read(content, encoding=None, say=None):
    if not isinstance(content, bytes):
        content = content.encode("utf-8")
    return list(lines.iterate_lines(io.BytesIO(content), encoding, say))


@pytest.mark.parametrize(
    "content, expected",
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb", ["a", "b"]),
        ("\ufeffa\n\ufeffb\n", ["a", "\ufeffb"]),
        ("a\n\n\nb\n\n", ["a", "", "", "b", ""]),
        # Characters that str.splitlines takes for line ends.
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\nh\n", ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg", "h"]),
        ("a\rb\nc\n", ["a\rb", "c"]),
        # Old spreadsheets' files, which hold no line feed.
        ("a\rb\rc", ["a", "b", "c"]),
        ("a\rb\r\rc\r", ["a", "b", "", "c"]),
        ("a\r", ["a"]),
        ("", []),
        ("\n", [""]),
    ],
)
def test_where_lines_end(content, expected):
    found = read(content)
    assert [line.text for line in found] == expected
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    assert not any(line.problem for line in found)


def test_what_a_carriage_return_was_taken_for_is_said_once():
    for content, expected in [
        ("a\rb", "each carriage return counts as the end"),
        ("x\na\rb\nc\rd\n", "line 2 holds a carriage return, which is kept as part"),
        ("a\r\nb\r\n", None),
    ]:
        said = []
        read(content, say=said.append)
        assert len(said) == (expected is not None)
        assert not expected or expected in said[0]


@pytest.mark.parametrize(
    "text, encoding, likely",
    [
        (CHINESE, "gbk", "gb18030"),
        ("手机\t电脑\t1\n", "gbk", "gb18030"),
        (TRADITIONAL, "gbk", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (KOREAN, "euc_kr", "euc_kr"),
        (FRENCH, "latin-1", "cp1252"),
        (CHINESE, "utf-16", "utf-16"),
        (CHINESE, "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-16-be", "utf-16-be"),
        ("a\tb\t1\n", "utf-16-le", "utf-16-le"),
        (FRENCH, "utf-32", "utf-32"),
        (KOREAN, "utf-32-be", "utf-32-be"),
    ],
)
def test_another_encoding_is_named_and_then_read(text, encoding, likely):
    found = read(text.encode(encoding))
    problem = next(line.problem for line in found if line.problem)
    assert found[0].problem == problem
    assert problem.endswith("the file is probably %s; give --encoding=%s" % (likely, likely))
    found = read(text.encode(encoding), likely)
    assert [line.text for line in found] == text.splitlines()
    assert not any(line.problem for line in found)


def test_utf_8_read_as_another_encoding_is_named():
    (problem,) = {line.problem for line in read("手机坏了怎么办呢\t电\n", "gbk")}
    assert problem == "is not gbk text; the file is probably utf-8; give --encoding=utf-8"


def test_a_damaged_line_is_named_alone():
    content = CHINESE.encode("utf-8") + "手机\n".encode("utf-8")[1:] + CHINESE.encode("utf-8")
    problems = [line.problem for line in read(content)]
    assert problems == [None, None, "is not UTF-8 text", None, None]


def test_a_nul_is_no_text():
    problems = [line.problem for line in read("a\tb\n\0c\td\n")]
    assert problems == [None, "holds a NUL character, which is not text"]


def test_names_of_encodings():
    assert all(map(lines.is_encoding, ["gb18030", "GBK", "utf-8", "big5hkscs"]))
    assert not any(map(lines.is_encoding, ["base64", "rot13", "no-such", "", "a\0b"]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "idna", "undefined"])
def test_an_encoding_that_cannot_go_on_is_one_line(encoding):
    with pytest.raises(lines.Unreadable, match="cannot be read as %s from here on" % encoding):
        read("a\tb\t1\n\xe9\n", encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_wide_encoding_cannot_go_on_after_an_invalid_byte(encoding):
    content = "手\n\ud8d9\n机\n".encode(encoding, "surrogatepass")
    with pytest.raises(lines.Unreadable, match="cannot be read as %s from here on" % encoding):
        read(content, encoding)


def test_an_invalid_byte_after_a_nul_is_one_line():
    """A NUL makes the program look at the lines that follow."""
    content = ("a\0\n" + "b" * 9000 + "\n\ud8d9\n").encode("utf-16-le", "surrogatepass")
    with pytest.raises(lines.Unreadable, match="cannot be read as utf-16-le from here on"):
        read(content, "utf-16-le")


def test_half_a_character_is_no_text():
    content = "a\n\ud83d\nb\n".encode("utf-16", "surrogatepass")
    with pytest.raises(lines.Unreadable):
        read(content, "utf-16")
    problems = [line.problem for line in read(b"a\n+2D0-\nb\n", "utf-7")]
    assert problems == [None, lines.HALF_A_CHARACTER, None]

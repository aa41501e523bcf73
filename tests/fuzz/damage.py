"""Files that are damaged a little: a fuzzer finds them hard to make from nothing."""

from hypothesis import settings
from hypothesis import strategies as st

# `make test` tries ten examples of each property of this folder, `make fuzz` a thousand.
_LONG = settings.get_current_profile_name() == "long"
EXAMPLES = settings(max_examples=settings.default.max_examples if _LONG else 10)

_ODD = (
    b"\0",
    b"\n",
    b"\xff\xfe",
    b'"',
    b"'",
    b"{",
    b"[",
    b"]",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"\xed\xa0\x80",
    b",",
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with one to four changes: bytes overwritten, removed, repeated or inserted, or an end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 40)))
        put = draw(st.sampled_from(_ODD) | st.binary(max_size=4))
        content = draw(
            st.sampled_from(
                [
                    content[:begin],
                    content[:begin] + content[end:],
                    content[:begin] + put + content[begin + len(put) :],
                    content[:begin] + put + content[begin:],
                    content[:end] + content[begin:],
                ]
            )
        )
    return content

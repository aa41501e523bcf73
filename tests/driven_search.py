"""A search without Ray: its suggestions are asked for and told as the searcher does it."""

from collections.abc import Callable, Sequence

from search.running.suggest import Parameters, Suggestions

Result = Callable[[int, Parameters], Sequence[float] | None]


def drive(
    suggestions: Suggestions, trials: int, concurrency: int, result: Result, last_first: bool = False
) -> tuple[list[Parameters], list[int]]:
    """Runs trials in which the oldest or the newest of those at work ends first.

    Returns:
        The configurations in the order of their numbers, and the numbers in the order in which trials ended.
    """
    asked: list[Parameters] = []
    running: list[int] = []
    ended: list[int] = []
    while len(asked) < trials or running:
        if len(asked) < trials and len(running) < concurrency and suggestions.ready():
            parameters = suggestions.ask()
            assert parameters is not None
            running.append(len(asked))
            asked.append(parameters)
            continue
        ended.append(running.pop(-1 if last_first else 0))
        suggestions.tell(ended[-1], result(ended[-1], asked[ended[-1]]))
    return asked, ended

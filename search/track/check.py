"""The store of a search's runs, opened before hours of training as the search will open it, and left as it was."""

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from mlflow.utils.uri import extract_db_type_from_uri
from sqlalchemy.exc import OperationalError

from etarec.config import UserError
from etarec.experiment_file import check_folder
from search.track.store import check_active, connect, explained, first_line, sqlite_file, store_address

FILE_BYTES, BYTES_PER_TRIAL = 8 * 2**20, 2**15  # of a SQLite store: docs/reliability.md
# Words of errors of a database that may be gone in a minute; the others stay until somebody mends them.
_AWAY = (
    "database is locked",
    "refused",
    "timeout",
    "timed out",
    "translate host name",
    "starting up",
    "too many",
    "unreachable",
    "closed the connection",
)


def check_store(experiment: str, trials: int) -> str:
    """Open the store that MLFLOW_TRACKING_URI names, and try to write to it.

    Returns:
        Why the store cannot be reached now; empty if it can. A search goes on without its store, and keeps trying.

    Raises:
        UserError: the store refuses, and will refuse until somebody mends it. The message holds its whole reason.
    """
    uri = mlflow.get_tracking_uri()
    file = sqlite_file(uri)
    if file is not None:
        check_folder(file.absolute().parent, "MLFLOW_TRACKING_URI", FILE_BYTES + trials * BYTES_PER_TRIAL)
        if not file.exists():
            return ""  # the search makes it
    served = uri.startswith("http")
    try:
        with explained():
            _check_served(experiment) if served else _check_database(uri, experiment)
    except UserError:
        raise
    except Exception as error:
        if _away(error, served):
            return first_line(error)
        raise UserError(
            f"MLflow at {store_address()} cannot be used: {first_line(error)}; expected a store that "
            "MLFLOW_TRACKING_URI names and that this user can write to"
        ) from error
    return ""


def _away(error: Exception, served: bool) -> bool:
    """Whether the store may answer later: a server that does not, or a database that is locked or out of reach."""
    if served:
        return not isinstance(error, MlflowException) or int(error.get_http_status_code()) >= 500  # type: ignore[no-untyped-call]
    return isinstance(error, OperationalError) and any(words in str(error).lower() for words in _AWAY)


def _check_served(experiment: str) -> None:
    found = connect().get_experiment_by_name(experiment)
    if found is not None:
        check_active(experiment, str(found.experiment_id), found.lifecycle_stage)


def _check_database(uri: str, experiment: str) -> None:
    """MLflow itself would make the tables of an empty database, so this asks the database without MLflow's client."""
    extract_db_type_from_uri(uri)  # type: ignore[no-untyped-call]  # raises for a store that is no database
    engine = database.create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    if not database._all_tables_exist(engine):  # type: ignore[no-untyped-call]
        return
    database._verify_schema(engine)  # type: ignore[no-untyped-call]
    with engine.connect() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE experiments SET name = name WHERE 1 = 0")
        )  # needs the right to write
        query = sqlalchemy.text("SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = :name")
        found = connection.execute(query, {"name": experiment}).first()
        connection.rollback()
    engine.dispose()
    if found is not None:
        check_active(experiment, str(found[0]), str(found[1]))

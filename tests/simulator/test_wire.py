"""Accounts of devices, cloud and kernel side by side."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from protos.v1.simulation_pb2 import Connection, Ready, RunDone, Streams, Traffic
from shared_models.contract.errors import RunFailed
from simulator.framing import (
    CALL,
    CONNECTION,
    EXCHANGE_ALONE,
    EXCHANGE_AMONG_OTHERS,
    HANG_UP,
    PIECE,
    SESSION,
    predicted,
)
from simulator.replay import Account
from simulator.split import Split, split_of, with_cloud_times
from simulator.wire import (
    CONNECTIONS,
    EQUAL,
    CloudAccount,
    connection_rows,
    crossings,
    read_cloud,
    reconciliation,
    require_reconciled,
)

HERE, THERE = "127.0.0.1:4000", "127.0.0.1:50051"


def done(**changes: object) -> RunDone:
    """Two users: 4 refreshes over 2 sessions of which 1 was hung up, and a bundle in 3 pieces."""
    fields = {
        "traffic": [
            Traffic(user=1, purpose="refresh", bytes_up=300, bytes_down=3000, asks=3),
            Traffic(user=2, purpose="refresh", bytes_up=100, bytes_down=1000, asks=1),
            Traffic(user=1, purpose="control", bytes_up=70, bytes_down=2, asks=1),
            Traffic(user=2, purpose="control", bytes_up=70, bytes_down=2, asks=1),
            Traffic(purpose="bundle", bytes_up=70, bytes_down=9000, asks=2),
        ],
        "connections": [Connection(local=HERE, peer=THERE, bytes_up=2000, bytes_down=14_000)],
        "streams": Streams(opened=4, reset=1, pieces=3),
        **changes,
    }
    return RunDone(**fields)  # type: ignore[arg-type]


def accounts(**changes: object) -> list[Account]:
    return [Account(11, Ready(), done(**changes))]


def cloud(refreshed: int = 100) -> CloudAccount:
    rows = [
        (None, "bundle", 0, 70, 0, None, None),
        (None, "bundle", 0, 0, 9000, None, None),
        (1, "control", 0, 70, 2, None, None),
        (2, "control", 0, 70, 2, None, None),
        *((1, "refresh", ask, 100, 1000, 0.1, 0.2) for ask in (1, 2, 3)),
        (2, "refresh", 1, refreshed, 1000, 0.1, 0.2),
    ]
    columns = ("user", "purpose", "ask", "bytes_up", "bytes_down")
    schema = [*columns, "queue_seconds", "compute_seconds"]
    return CloudAccount(pl.DataFrame(rows, schema, orient="row"), {(HERE, THERE): (2000, 14_000)})


def rows(devices: list[Account], found: CloudAccount | None) -> list[dict[str, Any]]:
    """The connections as the file has them."""
    every = [("duet", 0, *row) for row in connection_rows(devices, found, in_flight=64)]
    return pl.DataFrame(every, schema=CONNECTIONS, orient="row").to_dicts()


def test_two_accounts_of_the_same_bytes_are_equal() -> None:
    assert reconciliation(accounts(), cloud()) == EQUAL


def test_a_byte_of_difference_fails_the_run_and_names_user_and_purpose() -> None:
    with pytest.raises(RunFailed, match=r"differ.*'user': 2.*'refresh'.*100.*101"):
        require_reconciled(accounts(), cloud(refreshed=101))


def test_what_only_one_side_counted_is_a_difference() -> None:
    more = CloudAccount(cloud().exchanges.filter(pl.col("user").is_not_null()), {})

    with pytest.raises(RunFailed, match="bundle"):
        require_reconciled(accounts(), more)


@pytest.mark.parametrize(
    ("devices", "found", "words"),
    [
        (accounts(streams=Streams(broken=2)), cloud(refreshed=5), "2 streams broke"),
        (accounts(), None, "under faults, or its cloud was killed"),
        ([], cloud(), "cut short"),
    ],
)
def test_where_something_went_wrong_the_accounts_are_unreconciled_but_the_run_lives(
    devices: list[Account], found: CloudAccount | None, words: str
) -> None:
    require_reconciled(devices, found)

    assert words in reconciliation(devices, found)


def test_a_connection_shows_payload_kernel_framing_and_what_was_predicted() -> None:
    (row,) = rows(accounts(), cloud())

    assert (row["kernel_up"], row["cloud_kernel_up"]) == (2000, 2000)
    assert (row["payload_up"], row["framing_up"]) == (610, 1390)
    assert (row["payload_down"], row["framing_down"]) == (13_004, 996)
    parts = (CONNECTION, CALL, PIECE * 3, SESSION * 2, HANG_UP, EXCHANGE_AMONG_OTHERS * 6)
    assert row["predicted_up"] == pytest.approx(math.fsum(part.up for part in parts))
    assert row["predicted_down"] == pytest.approx(math.fsum(part.down for part in parts))


def test_who_asks_alone_pays_more_for_each_exchange() -> None:
    alone, many = (predicted(crossings(done(), in_flight)) for in_flight in (1, 64))

    assert alone.up - many.up == 6 * (EXCHANGE_ALONE.up - EXCHANGE_AMONG_OTHERS.up)


def test_a_user_has_one_ask_under_way_whatever_its_process_may_have() -> None:
    traffic = [Traffic(user=7, purpose="refresh", asks=3), Traffic(purpose="bundle", asks=2)]

    lonely = crossings(done(traffic=traffic), in_flight=64)

    assert predicted(lonely) == predicted(replace(lonely, in_flight=1))


def test_payload_is_no_connections_own_where_a_process_had_several_or_a_stream_broke() -> None:
    two = [Connection(local=HERE, peer=THERE), Connection(local="127.0.0.1:4001", peer=THERE)]

    for found in (
        rows(accounts(connections=two), None),
        rows(accounts(streams=Streams(broken=1)), None),
    ):
        for row in found:
            assert row["payload_up"] is row["framing_up"] is row["predicted_up"] is None
            assert row["cloud_kernel_up"] is None
            assert row["kernel_up"] is not None


def test_a_killed_cloud_left_no_account(tmp_path: Path) -> None:
    assert read_cloud(tmp_path / "exchanges.parquet") is None


def rankings() -> pl.DataFrame:
    """Two refreshes of user 1, a refresh of user 2, and a ranking without an exchange."""
    return pl.DataFrame(
        {
            "user": pl.Series([1, 2, 1, 2], dtype=pl.Int64),
            "ask": pl.Series([1, 1, 2, 0], dtype=pl.UInt32),
            "seconds": [1.0, 2.0, 1.5, 0.5],
            "cloud_seconds": [0.75, 1.5, 1.0, 0.0],
            "scores": [0, 0, 0, 0],
        }
    )


def test_the_clouds_times_stand_beside_the_devices_in_the_same_order() -> None:
    told = with_cloud_times(rankings(), cloud().exchanges)

    expected = ["user", "ask", "seconds", "cloud_seconds", "queue_seconds", "compute_seconds"]
    assert told.columns == [*expected, "scores"]
    assert told["user"].to_list() == [1, 2, 1, 2]
    assert told["queue_seconds"].to_list() == [0.1, 0.1, 0.1, None]
    split = split_of(told)
    assert split.device == pytest.approx(1.75)
    assert split.queue == pytest.approx(0.3)
    assert split.cloud == pytest.approx(0.6)
    assert split.transfer == pytest.approx(3.25 - 0.9)


def test_a_ranking_may_have_waited_for_what_its_group_shares() -> None:
    shared = cloud().exchanges.with_columns(pl.col("purpose").replace("refresh", "group"))

    told = with_cloud_times(rankings(), shared)

    assert told["queue_seconds"].to_list() == [0.1, 0.1, 0.1, None]
    assert split_of(told).cloud == pytest.approx(0.6)


def test_an_ask_with_a_number_that_no_ranking_has_is_passed_over() -> None:
    exchanges = cloud().exchanges.with_columns(pl.col("ask").cast(pl.UInt64))
    odd = exchanges.filter(purpose="refresh").with_columns(ask=pl.lit(2**64 - 1, pl.UInt64))

    told = with_cloud_times(rankings(), pl.concat([exchanges, odd]))

    assert told["queue_seconds"].to_list() == [0.1, 0.1, 0.1, None]


def test_without_the_clouds_word_only_the_devices_share_is_known() -> None:
    told = with_cloud_times(rankings(), None)

    assert told["compute_seconds"].to_list() == [None] * 4
    assert split_of(told) == Split(1.75, None, None, None)

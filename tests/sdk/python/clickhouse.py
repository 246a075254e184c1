"""Talks to the embedded ClickHouse with an ordinary client, and prints what it was allowed to do.

usage: clickhouse.py HOST PORT USER PASSWORD [SQL]

One JSON document:

    version      what the server says it is
    one          the answer to `select 1`
    usage_rows   how many rows that table has, or null if there is no such table
    answer       the rows that SQL returned, every value as text, or null without SQL
    refused      {name: the server's error, or null if it went through} for each of ATTEMPTS
"""

import decimal
import json
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

# What a reader must not be able to do.
ATTEMPTS = {
    "insert": "insert into usage_rows select * from usage_rows",
    "create": "create table probe (x UInt8) engine = Memory",
    "file": "select * from file('/etc/passwd', 'LineAsString')",
    "url": "select * from url('http://127.0.0.1:9/', 'LineAsString')",
    "unlock": "set readonly = 0",
}


def main(host, port, user, password, sql=None):
    client = clickhouse_connect.get_client(host=host, port=int(port), username=user, password=password)
    document = {
        "version": client.server_version,
        "one": value(client, "select 1"),
        "usage_rows": value(client, "select count() from usage_rows") if value(client, "exists table usage_rows") else None,
        "answer": sql and [[text(field) for field in row] for row in client.query(sql).result_rows],
        "refused": {name: refusal(client, attempt) for name, attempt in ATTEMPTS.items()},
    }
    print(json.dumps(document))


def value(client, sql):
    return client.query(sql).result_rows[0][0]


def text(field):
    # `str` writes a small decimal with an exponent, and money is compared as text.
    return format(field, "f") if isinstance(field, decimal.Decimal) else str(field)


def refusal(client, sql):
    try:
        client.command(sql)
    except ClickHouseError as error:
        return str(error)
    return None


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    main(*sys.argv[1:])

"""The load that finds nothing lost elsewhere does find what is lost."""

from __future__ import annotations

from load import Load
from testbed.sites import until


def test_lost_requests_are_noticed(spare):
    with Load(spare) as load:
        spare.sudo("systemctl restart nginx")
        assert until(10, lambda: load.failures), "connections cut under their requests, and nothing seen"
        before = load.count
        assert until(10, lambda: load.count > before + 20), f"no way back: {load.words}"


def test_lost_and_doubled_messages_are_noticed(spare):
    with Load(spare) as load:
        assert until(10, lambda: len(load.posted) >= 10), load.words
    assert load.stored() == (len(load.posted), len(load.posted)), load.words

    def change(query):
        spare.sudo(f'psql -q -d {spare.app} -c "{query}"', user=spare.app)

    ours = f"from message where delivery_id like '{load.marker}-%'"
    again = f"select source, body, delivery_id || '-again' {ours} limit 1"
    change(f"insert into message (source, body, delivery_id) {again}")
    assert load.stored() == (len(load.posted) + 1, len(load.posted))
    change(f"delete from message where delivery_id = '{load.posted[0]}'")
    change(f"delete from message where delivery_id = '{load.posted[0]}-again'")
    assert load.stored()[1] == len(load.posted) - 1

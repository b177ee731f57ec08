"""The dashboards for a Grafana of one's own, drawn by Grafana's SDK from what the consoles ask.

A module is a group of dashboards' panels; `frame` holds what all of them have, `consoles` the expressions.
"""

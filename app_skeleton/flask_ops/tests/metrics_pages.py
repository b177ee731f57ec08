"""Read a page of metrics as Prometheus would."""

from prometheus_client.parser import text_string_to_metric_families as parse_plain

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def samples(page, parse=parse_plain):
    """Return a page's values by series, each as its name and its labels."""
    found = {}
    for family in parse(page.decode()):
        for sample in family.samples:
            at = (sample.name, *sorted(sample.labels.items()))
            assert at not in found, f"twice on the page: {at}"
            found[at] = sample.value
    return found


def total(page, name, **labels):
    """Return the sum of all series of a name that have these labels."""
    wanted = set(labels.items())
    return sum(
        value for (series, *has), value in samples(page).items() if series == name and wanted <= set(has)
    )

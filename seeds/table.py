"""Tables of figures: one column for each proxy."""


def render(title, columns, rows):
    """Returns a table as text. `rows` are pairs of a name and one value for each column."""
    first = max(len(name) for name, _ in rows)
    widths = [
        max(len(column), *(len(str(values[place])) for _, values in rows))
        for place, column in enumerate(columns)
    ]
    lines = [title, "", line("", first, columns, widths)]
    lines += [line(name, first, values, widths) for name, values in rows]
    return "\n".join(lines) + "\n"


def line(name, first, values, widths):
    """Returns one line: the name on the left, the values aligned on the right of their columns."""
    cells = [str(value).rjust(width) for value, width in zip(values, widths)]
    return "  ".join([name.ljust(first), *cells])

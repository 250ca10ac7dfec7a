"""Pages for people: what reports of commands and of clusters are drawn with."""

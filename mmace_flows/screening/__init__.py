"""From candidates to a ranked table: the table's builder, its query language, REST and the page of `mmace serve`."""

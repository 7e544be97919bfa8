// Table: rows of the page that are kept from update to update, so that a focus or a selection in them stays.

import { make, put } from "./dom.js";

// A column: {title, text(row)} or {title, fill(cell, row)}; className; sort(row) gives what it is sorted by.
export class Table {
  #table;
  #columns;
  #keyOf;
  #classOf;
  #rows = [];
  #sort;

  // sort: the title of the column by which it is sorted first, the greatest on top. Where the page is narrower than
  // narrow, the rows are laid out as cards.
  constructor(table, columns, { keyOf, classOf = () => "", sort = null, narrow = "52rem" }) {
    [this.#table, this.#columns, this.#keyOf, this.#classOf] = [table, columns, keyOf, classOf];
    this.#sort = { column: columns.find(({ title }) => title === sort), isDown: true };
    this.#makeHead();
    table.createTBody().setAttribute("role", "rowgroup");
    const media = matchMedia(`(max-width: ${narrow})`);
    const lay = () => table.classList.toggle("cards", media.matches);
    media.addEventListener("change", lay);
    lay();
  }

  draw(rows = this.#rows) {
    this.#rows = rows;
    const body = this.#table.tBodies[0];
    const values = this.#sorted().map((value) => [String(this.#keyOf(value)), value]);
    const kept = new Set(values.map(([key]) => key));
    // First, since a row that is inserted anew loses the focus: those that stay keep their places.
    for (const row of [...body.rows]) if (!kept.has(row.dataset.key)) row.remove();
    const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
    for (const [index, [key, value]] of values.entries()) {
      const row = old.get(key) ?? this.#makeRow(key);
      old.delete(key);
      if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
      const className = this.#classOf(value);
      if (row.className !== className) row.className = className;
      this.#columns.forEach(({ text, fill }, place) => {
        if (fill) fill(row.cells[place], value);
        else put(row.cells[place], text(value));
      });
    }
    while (body.rows.length > values.length) body.lastChild.remove(); // of several with the same key
  }

  // On a narrow screen the table is laid out as cards, and a browser would no longer call it a table without roles.
  #makeHead() {
    const head = this.#table.createTHead();
    head.setAttribute("role", "rowgroup");
    const row = head.insertRow();
    row.setAttribute("role", "row");
    for (const column of this.#columns) {
      const cell = make("th", column.className);
      cell.scope = "col";
      cell.setAttribute("role", "columnheader");
      if (column.sort) {
        const sort = make("button", "sort", column.title);
        sort.type = "button";
        sort.addEventListener("click", () => this.#sortBy(column));
        cell.append(sort);
      } else {
        cell.textContent = column.title;
      }
      row.append(cell);
    }
    this.#markHead();
  }

  #makeRow(key) {
    const row = make("tr");
    row.dataset.key = key;
    row.setAttribute("role", "row");
    for (const [place, { title, className }] of this.#columns.entries()) {
      const cell = make(place ? "td" : "th", className);
      cell.setAttribute("role", place ? "cell" : "rowheader");
      if (!place) cell.scope = "row";
      cell.dataset.label = title;
      row.append(cell);
    }
    return row;
  }

  #sortBy(column) {
    const isNumber = this.#rows.some((row) => typeof column.sort(row) === "number");
    this.#sort = { column, isDown: this.#sort.column === column ? !this.#sort.isDown : isNumber };
    this.#markHead();
    this.draw();
  }

  #markHead() {
    this.#columns.forEach((column, place) => {
      const cell = this.#table.tHead.rows[0].cells[place];
      if (column === this.#sort.column) cell.ariaSort = this.#sort.isDown ? "descending" : "ascending";
      else cell.removeAttribute("aria-sort");
    });
  }

  #sorted() {
    const { column, isDown } = this.#sort;
    if (!column) return this.#rows;
    const sign = isDown ? -1 : 1;
    return [...this.#rows].sort((one, other) => {
      const [a, b] = [column.sort(one), column.sort(other)];
      if (a == null || b == null) return (a == null) - (b == null); // unknown ones are last, either way
      return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
    });
  }
}

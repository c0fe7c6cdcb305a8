// Many faces at once: filter, select, one decision for all that are selected.

import { ask, complain, el, get, labelText, percent, picture, post, session, t, toast, typing, when } from './base.js';
import { openHistory } from './history.js';
import { store } from './sitting.js';

const STATUSES = ['pending', 'confirmed', 'relabelled', 'other', 'rejected', 'unsure'];
const LOADING_AT_ONCE = 6;

export class GridPage {
  constructor(view) {
    this.view = view;
    this.cards = [];
    this.selected = new Set();
    this.focus = -1;
    this.anchor = -1;
    this.cursor = null;
    this.urls = [];
    this.waiting = [];
    this.loading = 0;
    this.abort = new AbortController();
    addEventListener('keydown', (event) => this.onKey(event), { signal: this.abort.signal });
    this.observer = new IntersectionObserver((entries) => this.onSeen(entries), { rootMargin: '400px' });
    this.build();
    this.reload();
  }

  close() {
    this.abort.abort();
    this.observer.disconnect();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
  }

  build() {
    const kept = store.read('filters') ?? {};
    const choice = (name, options) => el('label', {}, t(`filter.${name}`), el('select', { name },
      el('option', { value: '' }, t('filter.any')),
      options.map(([value, text]) => el('option', { value, selected: kept[name] === value }, text))));
    const field = (name, type, more = {}) => el('label', {}, t(`filter.${name}`), el('input', { name, type, value: kept[name], ...more }));
    const labels = session.sitting.labels.map((label) => [label, labelText(label)]);
    this.form = el('form', { class: 'filters', id: 'filters', onchange: () => this.reload(), onsubmit: (event) => { event.preventDefault(); this.reload(); } },
      choice('status', STATUSES.map((status) => [status, t(`status.${status}`)])),
      choice('label', labels), choice('model', (session.models ?? []).map((version) => [version, version])),
      field('since', 'date'), field('until', 'date'),
      field('at_least', 'number', { min: 0, max: 100, step: 5, placeholder: '0' }),
      field('at_most', 'number', { min: 0, max: 100, step: 5, placeholder: '100' }),
      choice('disagreed', [['yes', t('filter.disagreed_yes')]]),
      field('id', 'search', { placeholder: t('filter.id_hint') }),
      el('button', { type: 'button', onclick: () => { this.form.querySelectorAll('input').forEach((input) => { input.value = ''; }); this.form.querySelectorAll('select').forEach((select) => { select.value = ''; }); this.reload(); } }, t('filter.clear')));
    const decide = (key, text, run) => el('button', { onclick: run, disabled: true }, el('kbd', {}, key), text);
    this.count = el('output', { id: 'selected' });
    this.buttons = [
      ...session.sitting.keys.map(([label, key]) => decide(key.toUpperCase(), labelText(label), () => this.decide('relabel', label))),
      decide('↵', t('short.confirm'), () => this.decide('confirm')),
      decide('O', t('short.other'), () => this.other()),
      decide('X', t('short.reject'), () => this.decide('reject')),
      decide('U', t('act.unsure'), () => this.decide('unsure')),
    ];
    const undo = el('button', { onclick: () => this.undo() }, el('kbd', {}, '⌫'), t('act.undo'));
    this.bar = el('div', { class: 'deciding' }, this.count, ...this.buttons, undo);
    if (session.role === 'admin') {
      const remove = el('button', { class: 'danger', disabled: true, onclick: () => this.remove() }, t('history.delete'));
      this.buttons.push(remove);
      this.bar.append(remove);
    }
    this.box = el('div', { class: 'cards', id: 'cards', role: 'listbox', 'aria-multiselectable': 'true', 'aria-label': t('nav.grid') });
    this.more = el('div', { class: 'more' });
    this.view.replaceChildren(this.form, this.bar, this.box, this.more);
    this.showSelection();
  }

  filters() {
    const values = {};
    for (const [name, value] of new FormData(this.form)) if (String(value).trim()) values[name] = String(value).trim();
    return values;
  }

  async reload() {
    const values = this.filters();
    store.write('filters', values);
    this.run = (this.run ?? 0) + 1;
    this.cards = [];
    this.selected.clear();
    this.focus = this.anchor = -1;
    this.cursor = null;
    this.box.replaceChildren();
    this.waiting = [];
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    this.showSelection();
    await this.loadMore();
  }

  async loadMore() {
    const run = this.run;
    const query = new URLSearchParams(this.filters());
    if (this.cursor) query.set('cursor', this.cursor);
    this.more.replaceChildren(t('loading'));
    let answer;
    try {
      answer = await get(`samples?${query}`);
    } catch (error) {
      if (run === this.run) this.more.replaceChildren();
      complain(error);
      return;
    }
    if (run !== this.run) return;
    this.cursor = answer.next;
    for (const sample of answer.samples) this.add(sample);
    const button = el('button', { onclick: () => this.loadMore() }, t('grid.more'));
    if (this.cursor) this.more.replaceChildren(button);
    else if (this.cards.length) this.more.replaceChildren();
    else this.more.replaceChildren(el('div', { class: 'empty' }, el('h2', {}, t('grid.empty')), el('p', {}, t('grid.empty_hint'))));
    if (this.focus < 0 && this.cards.length) this.moveTo(0, false);
  }

  add(sample) {
    const index = this.cards.length;
    const image = el('img', { alt: '', draggable: 'false' });
    const what = el('div', { class: 'what' });
    const under = el('div', { class: 'under' });
    const node = el('div', { class: 'card', role: 'option', tabindex: -1, 'aria-selected': 'false', 'data-id': sample.id,
      onclick: (event) => this.onClick(index, event), ondblclick: () => this.openHistory(index) }, image, what, under);
    if (sample.copies.length) node.append(el('span', { class: 'copies', title: t('grid.copies', { n: sample.copies.length }) }, `×${sample.copies.length + 1}`));
    const card = { sample, node, image, what, under };
    this.cards.push(card);
    this.fillCard(card);
    this.box.append(node);
    this.observer.observe(node);
  }

  fillCard(card) {
    const { sample } = card;
    const label = sample.final_label ?? sample.predicted_label;
    const name = sample.blind ? t('queue.blind') : label && label !== 'other' ? labelText(label) : t(`status.${sample.status}`);
    const sure = sample.confidence === undefined || sample.confidence === null ? '' : percent(sample.confidence);
    const changed = sample.final_label && sample.predicted_label && sample.final_label !== sample.predicted_label;
    card.what.replaceChildren(el('b', {}, name), changed ? el('s', { class: 'quiet', title: t('fact.predicted') }, labelText(sample.predicted_label)) : el('span', { class: 'quiet' }, sure));
    const tone = { confirmed: 'good', relabelled: 'warn', rejected: 'bad' }[sample.status] ?? '';
    card.under.replaceChildren(el('span', { class: `chip ${tone}` }, t(`status.${sample.status}`)),
      sample.visitor_disagreed ? el('span', { class: 'chip warn', title: `${t('queue.visitor')}: ${labelText(sample.visitor_label)}` }, '≠') : '');
    card.node.title = `${when(sample.created_at)}\n${sample.model_version}\n${sample.id}`;
  }

  onSeen(entries) {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      this.observer.unobserve(entry.target);
      const card = this.cards.find((other) => other.node === entry.target);
      if (card) this.waiting.push(card);
    }
    this.loadPictures();
  }

  async loadPictures() {
    while (this.waiting.length && this.loading < LOADING_AT_ONCE) {
      const card = this.waiting.shift();
      this.loading += 1;
      picture(card.sample.id, 192).then((blob) => {
        const url = URL.createObjectURL(blob);
        this.urls.push(url);
        card.image.src = url;
      }).catch(() => card.node.classList.add('lost')).finally(() => {
        this.loading -= 1;
        this.loadPictures();
      });
    }
  }

  // Selection

  onClick(index, event) {
    if (event.shiftKey && this.anchor >= 0) this.range(this.anchor, index);
    else {
      this.toggle(index);
      this.anchor = index;
    }
    this.moveTo(index, true);
  }

  toggle(index) {
    if (this.selected.has(index)) this.selected.delete(index);
    else this.selected.add(index);
    this.showSelection();
  }

  range(from, to) {
    for (let i = Math.min(from, to); i <= Math.max(from, to); i += 1) this.selected.add(i);
    this.showSelection();
  }

  showSelection() {
    this.cards.forEach((card, index) => card.node.setAttribute('aria-selected', String(this.selected.has(index))));
    const faces = [...this.selected].reduce((sum, index) => sum + 1 + this.cards[index].sample.copies.length, 0);
    this.count.textContent = t('grid.selected', { n: faces });
    for (const button of this.buttons) button.disabled = !faces;
  }

  moveTo(index, focus) {
    if (index < 0 || index >= this.cards.length) return;
    if (this.focus >= 0) this.cards[this.focus]?.node.setAttribute('tabindex', '-1');
    this.focus = index;
    const { node } = this.cards[index];
    node.setAttribute('tabindex', '0');
    if (focus) node.focus();
  }

  onKey(event) {
    if (typing(event) || event.altKey) return;
    const key = event.key;
    const columns = getComputedStyle(this.box).gridTemplateColumns.split(' ').length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    if (step !== undefined && this.cards.length) {
      event.preventDefault();
      const from = Math.max(this.focus, 0);
      const to = this.focus < 0 ? 0 : Math.min(Math.max(from + step, 0), this.cards.length - 1);
      if (event.shiftKey) this.range(from, to);
      this.moveTo(to, true);
      return;
    }
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() !== 'a') return;
    const label = session.sitting.keys.find(([, own]) => own === key.toLowerCase());
    const onButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
    const actions = {
      ' ': () => { this.toggle(this.focus); this.anchor = this.focus; }, a: () => this.range(0, this.cards.length - 1),
      escape: () => { this.selected.clear(); this.showSelection(); }, h: () => this.openHistory(this.focus),
      enter: () => this.decide('confirm'), o: () => this.other(), x: () => this.decide('reject'),
      u: () => this.decide('unsure'), backspace: () => this.undo(),
    };
    const action = label ? () => this.decide('relabel', label[0]) : actions[key.toLowerCase()];
    if (!action || !this.cards.length || (onButton && [' ', 'Enter'].includes(key))) return;
    event.preventDefault();
    action();
  }

  // Decisions

  async other() {
    if (!this.selected.size) return;
    const note = await ask({ title: t('act.other'), yes: t('save'), input: { max: 200, hint: t('queue.other_hint') } });
    if (note !== null) this.decide('other', null, note);
  }

  /** One request after the other: a key that comes while one is on its way waits for its turn. */
  inTurn(task) {
    this.turn = (this.turn ?? Promise.resolve()).then(task).catch(complain);
    return this.turn;
  }

  decide(kind, label = null, note = null) {
    const chosen = [...this.selected].map((index) => this.cards[index]);
    if (!chosen.length) return;
    this.selected.clear();
    this.showSelection();
    this.inTurn(async () => {
      const items = chosen.flatMap((card) => [card.sample, ...card.sample.copies])
        .map((sample) => ({ id: sample.id, row_version: sample.row_version }));
      try {
        this.apply(await post('decide-many', { items, kind, label, note, model: session.sitting.model, sitting: `${session.sitting.id}-grid` }));
      } catch (error) {
        // Selected again, so that one key tries again.
        this.cards.forEach((card, index) => chosen.includes(card) && this.selected.add(index));
        this.showSelection();
        throw error;
      }
    });
  }

  apply(answer) {
    const now = new Map(answer.samples.map((sample) => [sample.id, sample]));
    for (const card of this.cards) {
      const copies = card.sample.copies.map((copy) => ({ ...copy, row_version: now.get(copy.id)?.row_version ?? copy.row_version }));
      card.sample = { ...(now.get(card.sample.id) ?? card.sample), copies };
      this.fillCard(card);
    }
    if (answer.refused?.length) toast(`${t('grid.refused', { n: answer.refused.length })} ${answer.refused[0].message}`, true);
    else if (answer.done) toast(t('grid.decided', { n: answer.done }));
  }

  undo() {
    this.inTurn(async () => {
      const answer = await post('undo-many', { sitting: `${session.sitting.id}-grid` });
      if (!answer.samples.length) toast(t('queue.nothing_to_undo'));
      else toast(t('grid.undone', { n: answer.samples.length }));
      this.apply(answer);
    });
  }

  async remove() {
    const ids = [...this.selected].flatMap((index) => [this.cards[index].sample, ...this.cards[index].sample.copies]).map((sample) => sample.id);
    if (!ids.length) return;
    const sure = await ask({ title: t('grid.delete', { n: ids.length }), text: t('history.delete_sure'), yes: t('history.delete'), danger: true });
    if (sure === null) return;
    try {
      await post('delete', { ids });
    } catch (error) {
      complain(error);
    }
    this.reload();
  }

  openHistory(index) {
    if (this.cards[index]) openHistory(this.cards[index].sample.id, () => this.reload());
  }
}

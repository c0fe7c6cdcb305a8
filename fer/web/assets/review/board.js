// How the collection and the models are doing: plots, and what to do where there are none yet.

import { call, complain, el, get, labelText, locale, percent, root, session, t, toast, when } from './base.js';
import { barsChart, confusionChart, daysChart, intervalsChart, legend } from './charts.js';

const KINDS = ['confirmed', 'relabelled', 'rejected', 'other', 'unsure'];

export class BoardPage {
  constructor(view) {
    this.view = view;
    this.chosen = null;
    view.replaceChildren(el('p', { class: 'empty' }, t('loading')));
    this.load();
    this.abort = new AbortController();
    addEventListener('resize', () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.board && this.show(), 150);
    }, { signal: this.abort.signal });
  }

  close() {
    this.abort.abort();
    clearTimeout(this.timer);
  }

  /** Width that a plot has in a card over `columns` of twelve: texts are then never scaled. */
  room(columns) {
    const style = getComputedStyle(this.view);
    const all = this.view.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const share = matchMedia('(max-width: 800px)').matches ? 12 : columns;
    return Math.floor((all - 16 * (12 / share - 1)) * (share / 12) - 34);
  }

  async load() {
    try {
      this.board = await get('board');
    } catch (error) {
      complain(error);
      return;
    }
    this.show();
  }

  show() {
    const { board } = this;
    const parts = [this.totals(board)];
    if (!board.totals.collected) {
      this.view.replaceChildren(el('div', { class: 'board' }, ...parts), el('div', { class: 'empty' }, el('h2', {}, t('board.empty')), el('p', {}, t('board.empty_hint')), el('a', { href: `${root}/` , target: '_self' }, t('board.try'))));
      return;
    }
    parts.push(this.days(board), this.accuracy(board), this.confusion(board), this.perClass(board), this.pace(board), this.agreement(board), this.retraining(board));
    parts.push(this.drift(board));
    this.view.replaceChildren(el('div', { class: 'board' }, ...parts));
  }

  card(title, hint, size, ...content) {
    return el('section', { class: `panel ${size}` }, el('header', {}, el('h2', {}, title), hint ? el('span', { class: 'quiet' }, hint) : null), ...content);
  }

  none(text) {
    return el('p', { class: 'quiet' }, text);
  }

  totals(board) {
    const tile = (value, text) => el('div', {}, el('b', {}, value), el('span', {}, text));
    const number = (n) => n.toLocaleString(locale());
    const tiles = el('div', { class: 'tiles' }, tile(number(board.totals.collected), t('board.collected')),
      ['pending', ...KINDS].map((kind) => tile(number(board.totals[kind] ?? 0), t(`status.${kind}`))),
      tile(`${number(Math.round(board.size_mb))} MB`, t('board.size', { limit: number(board.limit_mb) })));
    const tools = el('div', { class: 'tools' },
      el('a', { href: `${root}/review/api/export`, download: '', target: '_self', id: 'export' }, t('board.export')));
    if (session.role === 'admin') tools.append(this.importButton());
    const limit = number(board.limit_mb);
    const room = board.fill === 'full' ? [t('board.full', { limit })]
      : board.fill === 'nearly' ? [t('board.nearly_full', { limit, share: percent(board.size_mb / board.limit_mb) })] : [];
    const shift = board.drift.alarm ? [`${t('board.drift')}: ${this.shifts(board.drift).join(' ')}`] : [];
    const warning = [...room, ...shift, ...(board.warnings ?? [])].map((text) => el('p', { class: 'trouble' }, text));
    return el('section', { class: 'panel all' }, ...warning, el('header', {}, tiles, tools));
  }

  importButton() {
    const field = el('input', { type: 'file', accept: '.zip', hidden: true, id: 'import', onchange: () => this.importFile(field.files[0]) });
    const decided = el('input', { type: 'checkbox', id: 'as-decisions' });
    return el('span', { class: 'tools' }, field, el('button', { onclick: () => field.click() }, t('board.import')),
      el('label', { class: 'quiet', title: t('board.import_as_hint') }, decided, ' ', t('board.import_as')));
  }

  async importFile(file) {
    if (!file) return;
    const decisions = document.getElementById('as-decisions').checked;
    toast(t('board.importing', { name: file.name }));
    try {
      const answer = await call('POST', `import?as_decisions=${decisions}`, file);
      toast(t('board.imported', answer));
    } catch (error) {
      complain(error);
    }
    this.load();
  }

  days(board) {
    const entries = [['collected', t('board.collected')], ...KINDS.map((kind) => [kind, t(`status.${kind}`)])];
    return this.card(t('board.by_day'), t('board.last_days', { n: board.by_day.length }), 'all', daysChart(board.by_day, KINDS, this.room(12)), legend(entries));
  }

  accuracy(board) {
    const rows = board.models.filter((model) => model.accuracy).map((model) => ({ version: model.version, champion: model.champion, ...model.accuracy }));
    const content = rows.length ? [intervalsChart(rows, this.room(12)), el('p', { class: 'quiet' }, t('board.accuracy_how'))] : [this.none(t('board.accuracy_none'))];
    return this.card(t('board.accuracy'), t('board.interval'), 'all', ...content);
  }

  model(board) {
    const known = board.models.filter((model) => model.matrix);
    return known.find((model) => model.version === this.chosen) ?? known.find((model) => model.champion) ?? known[0];
  }

  confusion(board) {
    const model = this.model(board);
    if (!model) return this.card(t('board.confusion'), null, '', this.none(t('board.decide_first')));
    const known = board.models.filter((other) => other.matrix);
    const choice = el('select', { 'aria-label': t('fact.model'), onchange: () => { this.chosen = choice.value; this.show(); } },
      known.map((other) => el('option', { value: other.version, selected: other === model }, other.version)));
    return this.card(t('board.confusion'), null, '', choice, confusionChart(model.labels, model.columns, model.matrix, this.room(6)), el('p', { class: 'quiet' }, t('board.confusion_how')));
  }

  perClass(board) {
    const model = this.model(board);
    if (!model) return this.card(t('board.per_class'), null, '', this.none(t('board.decide_first')));
    const share = (value) => (value === null ? '–' : percent(value));
    const rows = model.per_class.map((row) => el('tr', {}, el('td', {}, labelText(row.label)), el('td', { class: 'n' }, share(row.precision)), el('td', { class: 'n' }, share(row.recall)), el('td', { class: 'n' }, row.n)));
    const head = el('tr', {}, el('th', {}, t('fact.label')), el('th', { class: 'n' }, t('board.precision')), el('th', { class: 'n' }, t('board.recall')), el('th', { class: 'n' }, t('board.count')));
    return this.card(t('board.per_class'), model.version, '', el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), el('tbody', {}, rows))));
  }

  pace(board) {
    const rows = board.operators.map((one) => [one.name ?? t(one.me ? 'board.you' : 'board.somebody'), one.per_minute ?? 0, `${(one.per_minute ?? 0).toFixed(1)} · ${one.labels}`]);
    return this.card(t('board.pace'), t('board.pace_hint'), 'third', rows.length ? barsChart(rows, t('board.pace'), this.room(4)) : this.none(t('board.decide_first')));
  }

  agreement(board) {
    const { kappa } = board;
    if (!kappa || kappa.kappa === null) return this.card(t('board.agreement'), null, 'third', this.none(t('board.agreement_none')));
    const tile = (value, text) => el('div', {}, el('b', {}, value), el('span', {}, text));
    return this.card(t('board.agreement'), null, 'third', el('div', { class: 'tiles' },
      tile(kappa.kappa.toFixed(2), 'Cohen’s κ'), tile(percent(kappa.agreement), t('board.agreed')), tile(kappa.n, t('board.pairs'))));
  }

  retraining(board) {
    const { have, needed, last } = board.retraining;
    const missing = Math.max(0, needed - have);
    return this.card(t('board.retraining'), null, 'third',
      el('p', {}, missing ? t('board.missing', { n: missing }) : t('board.enough')),
      el('progress', { max: needed || 1, value: Math.min(have, needed || 1) }),
      el('p', { class: 'quiet' }, t('board.progress', { have, needed })),
      el('p', { class: 'quiet' }, last ? t('board.last_run', { when: when(last) }) : t('board.no_run')));
  }

  /** What shifted, a sentence each. */
  shifts({ recent, before, labels_shifted: labels, confidence_shifted: confidence }) {
    return [labels ? t('board.drift_labels') : null,
      confidence ? t('board.drift_confidence', { before: percent(before.confidence), recent: percent(recent.confidence) }) : null].filter(Boolean);
  }

  drift(board) {
    const { drift } = board;
    const { recent, before } = drift;
    const share = (value) => (value === null || value === undefined ? '–' : percent(value));
    const lines = [];
    if (!drift.enough) lines.push(t('board.drift_few', { recent: recent.sessions, before: before.sessions, days: drift.recent_days, needed: drift.needed }));
    else if (!drift.alarm) lines.push(t('board.drift_steady'));
    lines.push(...this.shifts(drift));
    if (drift.alarm && drift.new_models.length) lines.push(t('board.drift_models', { models: drift.new_models.join(', ') }));
    if (drift.alarm) lines.push(t('board.drift_look'));
    const row = (name, first, second) => el('tr', {}, el('td', {}, name), el('td', { class: 'n' }, first), el('td', { class: 'n' }, second));
    const labels = Object.keys(recent.shares).length ? recent.shares : before.shares;
    const rows = Object.keys(labels).map((label) => row(labelText(label), share(before.shares[label]), share(recent.shares[label])));
    rows.push(row(t('board.mean_confidence'), share(before.confidence), share(recent.confidence)), row(t('board.visits'), before.sessions, recent.sessions));
    const head = el('tr', {}, el('th', {}, t('fact.label')), el('th', { class: 'n' }, t('board.drift_before', { days: drift.before_days })), el('th', { class: 'n' }, t('board.drift_recent', { days: drift.recent_days })));
    const number = (value) => value.toLocaleString(locale(), { maximumFractionDigits: 2 });
    const how = drift.psi === null || !drift.enough ? null : el('p', { class: 'quiet' }, t('board.drift_how', { psi: number(drift.psi), effect: number(drift.effect) }));
    return this.card(t('board.drift'), t('board.drift_hint', { recent: drift.recent_days, before: drift.before_days }), 'all',
      el('p', { class: drift.alarm ? 'trouble' : '', id: 'drift' }, lines.join(' ')),
      el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), el('tbody', {}, rows))), how);
  }
}

// Small plots as SVG, from numbers alone.

import { labelText, locale, percent, t } from './base.js';

const NS = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function frame(width, height, title) {
  return svg('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title });
}

function tip(node, text) {
  node.append(svg('title', {}, text));
  return node;
}

/** The next round number at or above `value`: 1, 2, 5, 10, 20, … */
export function roundUp(value) {
  let step = 1;
  while (step < value) step *= String(step).startsWith('2') ? 2.5 : 2;
  return step;
}

/** Stacked bars of decisions by day, with what was collected behind them. */
export function daysChart(days, kinds, width) {
  const [height, left, bottom] = [200, 34, 20];
  const chart = frame(width, height, t('board.by_day'));
  const top = roundUp(Math.max(4, ...days.map((day) => Math.max(day.collected, kinds.reduce((sum, kind) => sum + day[kind], 0)))));
  const y = (value) => 8 + (height - bottom - 8) * (1 - value / top);
  for (const value of [0, top / 2, top]) {
    chart.append(svg('line', { class: 'axis', x1: left, x2: width, y1: y(value), y2: y(value) }));
    chart.append(svg('text', { x: left - 5, y: y(value) + 4, 'text-anchor': 'end' }, String(value)));
  }
  const slot = (width - left) / days.length;
  const bar = Math.min(slot * 0.42, 20);
  days.forEach((day, n) => {
    const x = left + slot * (n + 0.5);
    chart.append(tip(svg('rect', { class: 'collected', x: x - bar, y: y(day.collected), width: bar, height: y(0) - y(day.collected) }), `${day.day}: ${t('board.collected')} ${day.collected}`));
    let sum = 0;
    for (const kind of kinds) {
      if (!day[kind]) continue;
      chart.append(tip(svg('rect', { class: kind, x, y: y(sum + day[kind]), width: bar, height: y(sum) - y(sum + day[kind]) }), `${day.day}: ${t(`status.${kind}`)} ${day[kind]}`));
      sum += day[kind];
    }
    const every = Math.ceil((days.length * 56) / width);
    // The last day's name would reach beyond the edge on a phone.
    const edge = slot < 40 && n === days.length - 1;
    if ((days.length - 1 - n) % every === 0) chart.append(svg('text', { x: edge ? width : x, y: height - 5, 'text-anchor': edge ? 'end' : 'middle' }, new Date(day.day).toLocaleDateString(locale(), { day: 'numeric', month: 'short', timeZone: 'UTC' })));
  });
  return chart;
}

/** Legend entries `[class, text]`. */
export function legend(entries) {
  const box = document.createElement('div');
  box.className = 'legend';
  for (const [kind, text] of entries) {
    const mark = svg('svg', { class: 'chart', viewBox: '0 0 10 10', 'aria-hidden': 'true' }, svg('rect', { class: kind, width: 10, height: 10, rx: 2 }));
    const item = document.createElement('span');
    item.append(mark, text);
    box.append(item);
  }
  return box;
}

/** Accuracy of each version with its interval, on one scale. */
export function intervalsChart(rows, width) {
  const line = 30;
  const [left, right] = width < 560 ? [16, 104] : [268, 118];
  const height = rows.length * line + 24;
  const chart = frame(width, height, t('board.accuracy'));
  const low = Math.max(0, Math.floor(10 * Math.min(...rows.map((row) => row.low)) - 0.01) / 10);
  const x = (share) => left + (width - left - right) * ((share - low) / (1 - low));
  for (let tick = Math.round(low * 10); tick <= 10; tick += 1) {
    chart.append(svg('line', { class: 'axis', x1: x(tick / 10), x2: x(tick / 10), y1: 4, y2: height - 20 }));
    if ((10 - tick) % Math.max(1, Math.round((1 - low) * 10 / 5)) === 0) chart.append(svg('text', { x: x(tick / 10), y: height - 6, 'text-anchor': 'middle' }, `${tick * 10} %`));
  }
  rows.forEach((row, n) => {
    const y = n * line + line / 2 + 4 + (left > 16 ? 0 : 6);
    const name = row.version.length > 40 ? `${row.version.slice(0, 39)}…` : row.version;
    chart.append(tip(svg('text', { class: row.champion ? 'strong' : '', x: 0, y: left > 16 ? y + 4 : y - 9 }, name), row.version));
    chart.append(svg('line', { class: 'range', x1: x(row.low), x2: x(row.high), y1: y, y2: y }));
    chart.append(tip(svg('circle', { class: 'dot', cx: x(row.accuracy), cy: y, r: 5 }), `${percent(row.accuracy)} (${percent(row.low)} – ${percent(row.high)})`));
    chart.append(svg('text', { class: 'strong', x: width - right + 12, y: y + 4 }, percent(row.accuracy)));
    chart.append(svg('text', { x: width - 62, y: y + 4 }, t('board.of', { n: row.n })));
  });
  return chart;
}

/** Predictions (rows) against final labels (columns), each row as shares of its sum. */
export function confusionChart(labels, columns, matrix, room) {
  const [left, top, cell] = [86, 70, Math.min(52, Math.floor((room - 130) / columns.length))];
  const width = left + cell * columns.length + 42;
  const height = top + cell * labels.length + 4;
  const chart = frame(width, height, t('board.confusion'));
  // Never larger than its numbers need.
  chart.style.maxWidth = `${width}px`;
  columns.forEach((label, n) => {
    const x = left + cell * (n + 0.5);
    chart.append(svg('text', { transform: `translate(${x + 4} ${top - 8}) rotate(-45)` }, columnText(label)));
  });
  labels.forEach((label, r) => {
    const sum = matrix[r].reduce((a, b) => a + b, 0);
    chart.append(svg('text', { x: left - 8, y: top + cell * (r + 0.5) + 4, 'text-anchor': 'end' }, labelText(label)));
    matrix[r].forEach((count, c) => {
      const share = sum ? count / sum : 0;
      const [x, y] = [left + cell * c, top + cell * r];
      const text = `${labelText(label)} → ${columnText(columns[c])}: ${count}`;
      chart.append(tip(svg('rect', { class: 'heat', x: x + 1, y: y + 1, width: cell - 2, height: cell - 2, rx: 3, 'fill-opacity': count ? 0.08 + 0.92 * share : 0.03 }), text));
      if (count) chart.append(svg('text', { class: share > 0.5 ? 'onheat' : 'strong', x: x + cell / 2, y: y + cell / 2 + 4, 'text-anchor': 'middle' }, String(count)));
    });
  });
  return chart;
}

function columnText(label) {
  return label === 'other' ? t('kind.other') : label === 'rejected' ? t('status.rejected') : labelText(label);
}

/** One bar for each row: `[name, value, text]`. */
export function barsChart(rows, title, width) {
  const [left, right, line] = [width * 0.3, 76, 26];
  const chart = frame(width, rows.length * line + 4, title);
  const top = Math.max(...rows.map(([, value]) => value), 1e-9);
  rows.forEach(([name, value, text], n) => {
    const y = n * line + 6;
    const length = ((width - left - right) * value) / top;
    chart.append(svg('text', { class: 'strong', x: 0, y: y + 12 }, name));
    chart.append(svg('rect', { class: 'dot', x: left, y, width: Math.max(1, length), height: 15, rx: 3 }));
    chart.append(svg('text', { x: left + length + 6, y: y + 12 }, text));
  });
  return chart;
}

/** A run's loss by round, small enough for a table: the challenger's, with the folds' behind it. */
export function lossCurves(curve, folds) {
  if (curve.length < 2) return '–';
  const [width, height] = [110, 32];
  const all = [curve, ...folds];
  const [low, high] = [Math.min(...all.flat()), Math.max(...all.flat())];
  const longest = Math.max(...all.map((each) => each.length));
  const points = (each) => each.map((value, n) =>
    `${2 + ((width - 4) * n) / (longest - 1)},${2 + ((height - 4) * (high - value)) / (high - low || 1)}`).join(' ');
  const text = `${t('models.curve')}: ${curve.map((value) => value.toFixed(2)).join(', ')}`;
  const chart = frame(width, height, text);
  chart.classList.add('spark');
  for (const each of folds) chart.append(svg('polyline', { points: points(each) }));
  chart.append(svg('polyline', { class: 'main', points: points(curve) }));
  return tip(chart, text);
}

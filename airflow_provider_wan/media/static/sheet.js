'use strict';
const rows = JSON.parse(document.getElementById('rows').textContent);
const perPage = 48, main = document.querySelector('main');
const filters = [...document.querySelectorAll('button[data-state]')];
const [back, next] = ['back', 'next'].map((id) => document.getElementById(id));
let state = '', page = 0;

function add(parent, name, text, values = {}) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function explain(element, text) {
  const note = document.createElement('div');
  note.className = 'none';
  note.textContent = text;
  element.replaceWith(note);
}

function addImage(parent, row) {
  const source = row.picture || row.poster || row.image;
  if (!source) return add(parent, 'div', 'no picture', { class: 'none' });
  const image = add(parent, 'img', '', { loading: 'lazy', referrerpolicy: 'no-referrer', alt: 'source image', src: source });
  image.onerror = () => explain(image, 'the image can\u2019t be shown from here');
}

function addClip(parent, row) {
  if (!row.video) return add(parent, 'div', row.state, { class: 'none' });
  const video = add(parent, 'video', '', { controls: '', loop: '', playsinline: '', src: row.video });
  video.preload = row.picture || row.poster ? 'none' : 'metadata';
  if (row.picture || row.poster) video.poster = row.picture || row.poster;
  video.onerror = () => explain(video, 'the clip can\u2019t be loaded from here: open it in the gallery, or download the folder');
}

function show() {
  const chosen = rows.filter((row) => state === '' || row.state === state);
  const pages = Math.max(1, Math.ceil(chosen.length / perPage));
  page = Math.min(Math.max(page, 0), pages - 1);
  main.replaceChildren();
  for (const row of chosen.slice(page * perPage, (page + 1) * perPage)) {
    const tile = add(main, 'article', '', { 'data-state': row.state });
    const pair = add(tile, 'div', '', { class: 'pair' });
    addImage(pair, row);
    addClip(pair, row);
    add(add(tile, 'p', ''), 'b', row.title);
    add(tile, 'p', row.note, row.video ? {} : { class: 'bad' });
    if (row.prompt) {
      const details = add(tile, 'details', '');
      add(details, 'summary', 'Prompt');
      add(details, 'p', row.prompt);
    }
  }
  for (const each of filters) each.setAttribute('aria-pressed', String(each.dataset.state === state));
  document.getElementById('page').textContent = `page ${page + 1} of ${pages}`;
  back.disabled = page === 0;
  next.disabled = page === pages - 1;
}

for (const each of filters) each.onclick = () => { state = each.dataset.state; page = 0; show(); };
back.onclick = () => { page -= 1; show(); scrollTo(0, 0); };
next.onclick = () => { page += 1; show(); scrollTo(0, 0); };
show();

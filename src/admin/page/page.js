// Fetches the page again and again, and replaces in place what differs: what is open stays open, what is selected
// stays selected, and nothing jumps. It rests while nobody looks.
'use strict';
(() => {
  const PERIOD = 1000;
  const PATIENCE = 5000;
  const page = document.getElementById('page');
  const stale = document.getElementById('stale');
  let answered = Date.now();
  let timer = 0;
  let asking = false;

  // What only this side knows: whether a piece is open.
  const OWN = new Set(['open']);

  const attributes = (old, fresh) => {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !OWN.has(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  };

  const alike = (old, fresh) => old.nodeName === fresh.nodeName && (old.id || '') === (fresh.id || '');

  const children = (old, fresh) => {
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      // One with a name may have moved: its elder siblings came or went.
      const named = wanted.id && [...old.children].find((child) => alike(child, wanted));
      if (named && named !== at) {
        old.insertBefore(named, at);
        at = named;
      }
      if (at && alike(at, wanted)) {
        patch(at, wanted);
        at = at.nextSibling;
      } else {
        old.insertBefore(document.importNode(wanted, true), at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  const patch = (old, fresh) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    attributes(old, fresh);
    children(old, fresh);
  };

  const show = (text) => {
    const fresh = new DOMParser().parseFromString(text, 'text/html');
    patch(page, fresh.getElementById('page'));
    document.title = fresh.title;
    answered = Date.now();
    stale.hidden = true;
    document.body.classList.remove('stale');
  };

  const complain = (why) => {
    const since = new Date(answered);
    const seconds = Math.round((Date.now() - answered) / 1000);
    stale.textContent = `No answer from Warmline since ${since.toLocaleTimeString()} (${seconds} s): ${why}. ` +
      'What stands below is from then.';
    stale.hidden = false;
    document.body.classList.add('stale');
    document.title = 'no answer · Warmline';
  };

  const refresh = async () => {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    try {
      const answer = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
      if (answer.ok) show(await answer.text());
      else complain(`it answers ${answer.status}`);
    } catch {
      complain('the process is gone, or its port is');
    } finally {
      asking = false;
      rest();
    }
  };

  const rest = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, PERIOD);
  };

  document.addEventListener('visibilitychange', () => (document.hidden ? rest() : refresh()));

  // A button without a new page; without this script it is a plain form.
  document.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = event.submitter;
    if (button) button.disabled = true;
    try {
      await fetch(event.target.action, { method: 'POST', signal: AbortSignal.timeout(PATIENCE) });
    } catch {
      // The next refresh says that nobody answers.
    }
    if (button) button.disabled = false;
    refresh();
  });

  rest();
})();

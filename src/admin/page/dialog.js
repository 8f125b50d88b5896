// The confirmation dialog. Before a change that cuts sessions it shows what will happen, updated with each snapshot.
import { byId, node, say } from './parts.js';
import * as words from './words.js';

export class Dialog {
  #snapshot;
  #act;
  #question = null; // the current question while the dialog is open
  #confirm;

  constructor(snapshot, act) {
    this.#snapshot = snapshot;
    this.#act = act;
    byId('dialog-cancel').addEventListener('click', () => byId('dialog').close());
    byId('dialog-do').addEventListener('click', () => this.#confirm());
    byId('dialog').addEventListener('close', () => (this.#question = null));
  }

  // Sets a switch.
  mode(name, mode) {
    const sentences = () => words.consequences(this.#snapshot(), name, mode);
    const question = {
      title: `Switch ${name === 'fleet' ? 'the fleet' : 'this replica'} to ${mode}?`,
      does: `Switch to ${mode}`,
      isDangerous: () => question.isRefused || (mode === 'enforce' && words.wouldBeCut(this.#snapshot(), name) > 0),
      isLasting: true,
      sentences,
      done: `The switch “${words.SWITCHES[name]}” is set to ${mode}.`,
    };
    return this.#ask(question, () => {
      const lasting = byId('lasting').value;
      const yes = question.isDangerous();
      const change = { mode, fleet: name === 'fleet', yes, ...(lasting && { for: lasting }) };
      return this.#act('PUT', '/mode', change).catch((refusal) => {
        if (refusal.would_cut === undefined) throw refusal;
        // The server would cut more than the dialog shows, so ask again.
        question.isRefused = true;
        throw { error: refusal.error, fix: `“${question.does}” cuts ${refusal.would_cut === 1 ? 'it' : 'them'}` };
      });
    });
  }

  // Ends a session.
  end(session) {
    const id = session.session;
    const now = () => this.#snapshot().sessions.find((other) => other.session === id) ?? session;
    const question = {
      title: `End session ${words.short(id)}?`,
      does: 'End it',
      isDangerous: () => true,
      isLasting: false,
      sentences: () => words.endings(now()),
      done: `Session ${words.short(id)} has ended.`,
    };
    return this.#ask(question, async () => {
      const { unsynced } = await this.#act('DELETE', `/sessions/${id}`);
      if (unsynced) question.done = `Session ${words.short(id)} has ended on this replica. The store is unavailable; other replicas follow when it is back.`;
    });
  }

  // Refreshes a session. This needs no confirmation.
  async extend(id) {
    try {
      await this.#act('POST', `/sessions/${id}/extend`);
      return { text: `Session ${words.short(id)} was extended: its idle time starts again now.` };
    } catch ({ error, fix }) {
      return { text: `${error}; ${fix}`, isWrong: true };
    }
  }

  // Updates the text from the latest snapshot.
  refresh() {
    if (!this.#question) return;
    const { sentences, isDangerous } = this.#question;
    const texts = sentences();
    byId('dialog').dataset.danger = isDangerous();
    const list = byId('dialog-text');
    if (texts.join('\n') !== [...list.children].map(({ textContent }) => textContent).join('\n')) {
      list.replaceChildren(...texts.map((text) => node('li', text)));
    }
  }

  // Resolves to the notice to show, or to null if cancelled.
  #ask(question, act) {
    const dialog = byId('dialog');
    this.#question = question;
    say(byId('dialog-title'), question.title);
    say(byId('dialog-do'), question.does);
    say(byId('dialog-wrong'), '');
    byId('lasting-label').hidden = !question.isLasting;
    byId('lasting').value = '';
    byId('dialog-do').disabled = false;
    this.refresh();
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener('close', () => resolve(null), { once: true });
      this.#confirm = async () => {
        byId('dialog-do').disabled = true;
        try {
          await act();
          resolve({ text: question.done });
          dialog.close();
        } catch ({ error, fix }) {
          say(byId('dialog-wrong'), `${error}; ${fix}`);
        }
        byId('dialog-do').disabled = false;
      };
    });
  }
}

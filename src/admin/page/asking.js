// The dialog: no session is cut before the operator has read what will happen. The text follows each snapshot.
import { byId, node, say } from './parts.js';
import * as words from './words.js';

export class Asking {
  #snapshot;
  #act;
  #says = null; // the sentences, while it is open
  #answered;

  constructor(snapshot, act) {
    this.#snapshot = snapshot;
    this.#act = act;
    byId('dialog-cancel').addEventListener('click', () => byId('dialog').close());
    byId('dialog-do').addEventListener('click', () => this.#answered());
    byId('dialog').addEventListener('close', () => (this.#says = null));
  }

  // Sets a switch.
  mode(name, mode) {
    const sentences = () => words.consequences(this.#snapshot(), name, mode);
    const question = {
      title: `Switch ${name === 'fleet' ? 'the fleet' : 'this replica'} to ${mode}?`,
      does: `Switch to ${mode}`,
      isDangerous: () => question.isTold || (mode === 'enforce' && words.wouldBeCut(this.#snapshot(), name) > 0),
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
        // More than stands here: it is asked once more.
        question.isTold = true;
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
      if (unsynced) question.done = `Session ${words.short(id)} has ended on this replica. The store does not answer: the other replicas learn of it when it does.`;
    });
  }

  // Refreshes a session, which needs no question.
  async extend(id) {
    try {
      await this.#act('POST', `/sessions/${id}/extend`);
      return { text: `Session ${words.short(id)} counts from now on.` };
    } catch ({ error, fix }) {
      return { text: `${error}; ${fix}`, isWrong: true };
    }
  }

  // Describes what will happen, as of now.
  refresh() {
    if (!this.#says) return;
    const { sentences, isDangerous } = this.#says;
    const says = sentences();
    byId('dialog').dataset.danger = isDangerous();
    const list = byId('dialog-text');
    if (says.join('\n') !== [...list.children].map(({ textContent }) => textContent).join('\n')) {
      list.replaceChildren(...says.map((text) => node('li', text)));
    }
  }

  // The result to show when it is done; nothing if it was cancelled.
  #ask(question, act) {
    const dialog = byId('dialog');
    this.#says = question;
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
      this.#answered = async () => {
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

// Sends decisions one after the other, in the order they were made, until the server has them.

import { Refused, complain, post, signedOut, t, toast } from './base.js';

const RETRY_MS = [300, 1000, 2000, 4000, 8000];

export class Outbox {
  /** @param {(waiting: number, broken: boolean) => void} onChange */
  constructor(onChange) {
    this.jobs = [];
    this.running = false;
    this.onChange = onChange;
    addEventListener('beforeunload', (event) => {
      if (this.jobs.length) event.preventDefault();
    });
    for (const name of ['online', 'focus']) addEventListener(name, () => this.wake?.());
  }

  /**
   * @param {object} job
   * @param {string} job.path the route
   * @param {() => object | null} job.body made when it is sent; null: nothing to send any more
   * @param {(answer: object) => void} job.done
   * @param {(error: Error) => void} job.failed the server refused; the job is over
   */
  add(job) {
    this.jobs.push(job);
    this.onChange(this.jobs.length, false);
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    let failures = 0;
    while (this.jobs.length) {
      const job = this.jobs[0];
      const body = job.body();
      try {
        if (body !== null) job.done?.(await post(job.path, { ...body, again: failures > 0 }));
        failures = 0;
        this.jobs.shift();
      } catch (error) {
        if (!(await this.after(error, job, failures))) {
          this.jobs.shift();
          failures = 0;
        } else {
          failures += 1;
        }
      }
      this.onChange(this.jobs.length, failures > 0);
    }
    this.running = false;
  }

  /** Whether to try again. */
  async after(error, job, failures) {
    // The answer may be lost on the way, too: `again` tells the server that it may have it already.
    const lost = !(error instanceof Refused) || error.status >= 500 || error.status === 429;
    const out = error instanceof Refused && error.status === 401;
    if ((!lost && !out) || (lost && job.once)) {
      job.failed?.(error);
      if (error.status === 409) toast(error.message || t('error.conflict'), true);
      else complain(error);
      return false;
    }
    if (out) signedOut();
    this.onChange(this.jobs.length, true);
    await new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    });
    return true;
  }
}

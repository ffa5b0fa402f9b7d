// Child processes that leave nothing behind: started, watched by what they print, asked to stop, and killed if this process dies.
//
//   spawn → first line on stdout that matters → … → SIGTERM → exit code        programs that end by themselves: `run`
import { execFile, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';

/** How long a process may take to say that it is up, and to stop when asked. */
const START_LIMIT = 120_000;
const STOP_LIMIT = 90_000;

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
// Without these a signal would end this process and leave its children.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

export class Daemon {
  /** Starts a program; its stderr goes to `log`. */
  constructor(name, program, args, { log, env = process.env, cwd } = {}) {
    this.name = name;
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env, cwd });
    running.add(this.child);
    this.exited = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => {
        running.delete(this.child);
        resolve({ code, signal });
      });
      this.child.once('error', (error) => resolve({ error }));
    });
    this.child.stderr.pipe(createWriteStream(log, { flags: 'a' }));
    this.lines = createInterface({ input: this.child.stdout });
    // Somebody must go on reading, or the program would wait for room in the pipe.
    this.lines.on('line', () => {});
  }

  /** The first line on stdout that `pick` makes something of. */
  async announces(pick) {
    const found = new Promise((resolve) => {
      this.lines.on('line', (line) => {
        const value = pick(line);
        if (value !== undefined) resolve(value);
      });
    });
    const ended = this.exited.then((how) => {
      throw new Error(`${this.name} ended before it was up: ${JSON.stringify(how)}`);
    });
    return within(START_LIMIT, `${this.name} is up`, Promise.race([found, ended]));
  }

  /** Sends a signal and waits for the end. */
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    return within(STOP_LIMIT, `${this.name} stops after ${signal}`, this.exited);
  }
}

/** Runs a program to its end: {code, stdout, stderr}. */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: 10 * START_LIMIT, maxBuffer: 1 << 26, ...options }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(error);
      else resolve({ code: error ? error.code : 0, stdout, stderr });
    });
  });
}

/** The promise, or an error that says what did not happen in time. */
export async function within(milliseconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${milliseconds / 1000} s: ${what}`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again and again until `look` gives something. */
export async function until(what, look, milliseconds = START_LIMIT) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`not within ${milliseconds / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

// The state from L1 alone: docs/protocol.md §2, §4 and §7, written from that file.
//
//   logs of the contract → calldata of each commit → data vector d → dataHash, C, z, y  (compared with the contract's and the node's)
//                                                  → effects on the tree → root          (compared with the batch's new root)
import {
  concat, decodeFunctionData, encodeAbiParameters, encodePacked, hexToBytes, keccak256, parseEventLogs, toHex,
} from 'viem';
import { KIND, R, TREE_DEPTH, feeByte, float40, leafOf, poseidon } from './protocol.mjs';

const ROW_BYTES = 12;
const FEE_LEAVES_AT_MOST = 10;
const CHUNK_RECORDS = 32;
const MAX_NONCE = 1n << 40n;
const FORCED_EXIT_JUMP = 1n << 16n;

// ------------------------------------------------------------------------------------------------ state

/** Z_k: the root of an empty subtree of height k. */
const EMPTY = Array.from({ length: TREE_DEPTH }).reduce((roots) => {
  const last = roots.at(-1);
  return [...roots, poseidon(last, last, last, last)];
}, [0n]);

/** The accounts, and the sparse quaternary tree over their leaves. */
export class State {
  #accounts = new Map();
  #nodes = Array.from({ length: TREE_DEPTH + 1 }, () => new Map());
  #stale = new Set();

  account(index) {
    return this.#accounts.get(index);
  }

  /** All accounts as [index, account], in the order of their indices. */
  accounts() {
    return [...this.#accounts].sort(([a], [b]) => Number(a - b));
  }

  /** Puts an account, or empties its leaf. */
  set(index, account) {
    if (account) this.#accounts.set(index, account);
    else this.#accounts.delete(index);
    this.#stale.add(index);
  }

  /** The root, with only the paths of changed leaves hashed again. */
  root() {
    let changed = [...this.#stale];
    for (const index of changed) this.#put(0, index, this.#leaf(index));
    for (let level = 1; level <= TREE_DEPTH; level += 1) {
      changed = [...new Set(changed.map((position) => position >> 2n))];
      for (const position of changed) {
        const children = [0n, 1n, 2n, 3n].map((digit) => this.#node(level - 1, (position << 2n) + digit));
        this.#put(level, position, poseidon(...children));
      }
    }
    this.#stale.clear();
    return this.#node(TREE_DEPTH, 0n);
  }

  #leaf(index) {
    const account = this.#accounts.get(index);
    return account ? leafOf(account) : 0n;
  }

  #node(level, position) {
    return this.#nodes[level].get(position) ?? EMPTY[level];
  }

  #put(level, position, value) {
    this.#nodes[level].set(position, value);
  }
}

// ------------------------------------------------------------------------------------------------ posted data

const bigEndian = (bytes) => (bytes.length ? BigInt(toHex(bytes)) : 0n);

/** Rows of 12 bytes: from (3), to (3), float40 amount (5), fee (1). */
export function decodeRows(hex) {
  const bytes = hexToBytes(hex);
  if (bytes.length % (2 * ROW_BYTES) !== 0) throw new Error(`${bytes.length} bytes are no pairs of rows`);
  return Array.from({ length: bytes.length / ROW_BYTES }, (_, place) => {
    const row = bytes.subarray(place * ROW_BYTES, (place + 1) * ROW_BYTES);
    const [from, to] = [bigEndian(row.subarray(0, 3)), bigEndian(row.subarray(3, 6))];
    return { word: bigEndian(row), from, to, amountCode: bigEndian(row.subarray(6, 11)), feeCode: bigEndian(row.subarray(11)) };
  });
}

/** Extras by row: {receiver, token, amount} of a withdrawal or {owner} of a new account. The row decides which, not the content. */
export function decodeExtras(hex, rows) {
  const bytes = hexToBytes(hex);
  const extras = new Map();
  let [offset, last] = [0, -1];
  const take = (count) => {
    if (offset + count > bytes.length) throw new Error(`the extras end inside a record at byte ${offset}`);
    return bytes.subarray(offset, (offset += count));
  };
  while (offset < bytes.length) {
    const place = Number(bigEndian(take(2)));
    if (place <= last || place >= rows.length) throw new Error(`record of row ${place} after row ${last}`);
    last = place;
    const { from, to } = rows[place];
    if (from !== 0n && to === 0n) {
      extras.set(place, { receiver: toHex(take(20)), token: bigEndian(take(4)), amount: bigEndian(take(16)) });
    } else {
      extras.set(place, { owner: bigEndian(take(32)) });
    }
  }
  return extras;
}

/** Five words of an L1 row, its result filled in. */
export function l1RowWords({ request, result }) {
  const { kind, index, token, amount, sender, owner, ax, ay } = request;
  return BigInt(kind) === KIND.deposit
    ? [KIND.deposit + (result << 8n) + (BigInt(token) << 32n), amount, owner, 0n, 0n]
    : [KIND.forcedExit + (BigInt(index) << 8n) + (BigInt(token) << 32n), result, BigInt(sender), ax, ay];
}

/** A posted batch, decoded. `batch` is the contract's struct as viem decodes it. */
export function decodeBatch(batch) {
  const rows = decodeRows(batch.rows);
  return { ...batch, rows, extras: decodeExtras(batch.extras, rows), rowsHex: batch.rows, extrasHex: batch.extras };
}

/** The data vector d. `circuit` is {l1Rows, txRows}; `place` {number, domain, oldRoot} is what the contract supplies. */
export function dataVector(decoded, circuit, { number, domain, oldRoot }) {
  const { circuitId, timestamp, newRoot, feeLeaves, l1Rows, rows, extras } = decoded;
  const head = BigInt(circuitId) + (BigInt(number) << 16n) + (BigInt(timestamp) << 80n);
  const requests = l1Rows.flatMap(l1RowWords);
  const row = (place) => rows[place]?.word ?? 0n;
  const pairs = Array.from({ length: circuit.txRows / 2 }, (_, pair) => (row(2 * pair) << 96n) + row(2 * pair + 1));
  const extraWords = Array.from({ length: circuit.txRows }, (_, place) => {
    const extra = extras.get(place);
    if (!extra) return [0n, 0n, 0n];
    return extra.receiver ? [BigInt(extra.receiver), extra.token, extra.amount] : [extra.owner, 0n, 0n];
  });
  const absent = Array(5 * circuit.l1Rows - requests.length).fill(0n);
  return [head, domain, oldRoot, newRoot, feeLeaves, ...requests, ...absent, ...pairs, ...extraWords.flat()];
}

/** C: the words in chunks of 15 behind a chaining value that begins as the circuit's id. */
export function commitment(words, circuitId) {
  let state = BigInt(circuitId);
  for (let at = 0; at < words.length; at += 15) {
    const chunk = words.slice(at, at + 15);
    state = poseidon(state, ...chunk, ...Array(15 - chunk.length).fill(0n));
  }
  return state;
}

const wordsHex = (words) => encodePacked(words.map(() => 'uint256'), words);

/** keccak256 over the hashes of L1 row words, rows and extras. */
export function dataHash({ l1Rows, rowsHex, extrasHex }) {
  return keccak256(concat([keccak256(wordsHex(l1Rows.flatMap(l1RowWords))), keccak256(rowsHex), keccak256(extrasHex)]));
}

/** z = keccak256(abi.encode(C, dataHash, d[0..4], beneficiary)) mod r. */
export function challenge(c, hash, words, beneficiary) {
  const values = [c, BigInt(hash), ...words.slice(0, 5), BigInt(beneficiary)];
  return BigInt(keccak256(encodeAbiParameters(values.map(() => ({ type: 'uint256' })), values))) % R;
}

/** y = Σ d[i]·z^i mod r. */
export function evaluate(words, z) {
  return words.reduceRight((sum, word) => (sum * z + word) % R, 0n);
}

/** Payouts in the contract's order: L1 rows that pay, then withdrawals. */
export function payouts({ l1Rows, extras }) {
  const fromL1 = l1Rows.flatMap(({ request, result }) => {
    const isDeposit = BigInt(request.kind) === KIND.deposit;
    const amount = isDeposit ? (result === 0n ? request.amount : 0n) : result;
    return amount > 0n ? [{ receiver: request.sender, token: BigInt(request.token), amount }] : [];
  });
  return [...fromL1, ...[...extras.values()].filter((extra) => extra.receiver)];
}

/** The records of the payouts, 40 bytes each, concatenated. */
export function payoutRecords(paid) {
  const record = ({ receiver, token, amount }) =>
    encodePacked(['address', 'uint32', 'uint128'], [receiver, Number(token), amount]);
  return paid.map(record);
}

/** The payouts hash: keccak256 of the hashes of chunks of 32; 0 where nothing is paid. */
export function payoutsHash(paid) {
  if (paid.length === 0) return toHex(0, { size: 32 });
  const records = payoutRecords(paid);
  const chunks = [];
  for (let at = 0; at < records.length; at += CHUNK_RECORDS) {
    chunks.push(keccak256(concat(records.slice(at, at + CHUNK_RECORDS))));
  }
  return keccak256(concat(chunks));
}

// ------------------------------------------------------------------------------------------------ effects

/** Applies a batch (§3: L1 rows, transaction rows, fees). Gives what undoes it. */
export function apply(state, decoded) {
  const before = new Map();
  const set = (index, account) => {
    if (!before.has(index)) before.set(index, state.account(index));
    state.set(index, account);
  };
  const credit = (index, owner, token, amount) => {
    const found = state.account(index);
    if (found && (found.owner !== owner || found.token !== token)) throw new Error(`leaf ${index} is not the recipient's`);
    set(index, found ? { ...found, balance: found.balance + amount } : { owner, token, nonce: 0n, balance: amount });
  };
  decoded.l1Rows.forEach((row) => applyRequest(state, row, set, credit));
  const fees = new Map();
  decoded.rows.forEach((row, place) => applyRow(state, row, decoded.extras.get(place), set, credit, fees));
  applyFees(state, decoded.feeLeaves, fees, set);
  return () => before.forEach((account, index) => state.set(index, account));
}

function applyRequest(state, { request, result }, set, credit) {
  const token = BigInt(request.token);
  if (BigInt(request.kind) === KIND.deposit) {
    if (result !== 0n) credit(result, request.owner, token, request.amount);
    return;
  }
  const index = BigInt(request.index);
  const account = state.account(index);
  const owner = poseidon(BigInt(request.sender), request.ax, request.ay);
  const pays = account !== undefined && account.token === token && account.owner === owner;
  if (result !== (pays ? account.balance : 0n)) throw new Error(`forced exit of leaf ${index} pays ${result}`);
  if (!pays) return;
  const jumped = account.nonce + FORCED_EXIT_JUMP;
  set(index, { ...account, balance: 0n, nonce: jumped < MAX_NONCE ? jumped : account.nonce });
}

function applyRow(state, { from, to, amountCode, feeCode }, extra, set, credit, fees) {
  if (from === 0n) return;
  const payer = state.account(from);
  const fee = feeByte.value(feeCode);
  const amount = to === 0n ? extra.amount : float40.value(amountCode);
  const balance = payer.balance - amount - fee;
  if (balance < 0n) throw new Error(`leaf ${from} is overdrawn`);
  set(from, { ...payer, nonce: payer.nonce + 1n, balance });
  if (fee > 0n) fees.set(payer.token, (fees.get(payer.token) ?? 0n) + fee);
  if (to === 0n) return;
  const owner = extra ? extra.owner : state.account(to).owner;
  credit(to, owner, payer.token, amount);
}

function applyFees(state, feeLeaves, fees, set) {
  const indices = Array.from({ length: FEE_LEAVES_AT_MOST }, (_, k) => (feeLeaves >> BigInt(24 * k)) & 0xffffffn);
  for (const [token, amount] of fees) {
    const leaves = indices.filter((index) => index !== 0n && state.account(index)?.token === token);
    if (leaves.length !== 1) throw new Error(`${leaves.length} fee leaves of token ${token}`);
    const account = state.account(leaves[0]);
    set(leaves[0], { ...account, balance: account.balance + amount });
  }
}

// ------------------------------------------------------------------------------------------------ from L1

/** One committed batch as its transaction's input states it, checked against its event. */
async function readCommit(client, contract, abi, log) {
  const { input } = await client.getTransaction({ hash: log.transactionHash });
  const { functionName, args } = decodeFunctionData({ abi, data: input });
  if (!['commitBatch', 'commitAndProve'].includes(functionName)) throw new Error(`${functionName} commits no batch`);
  const decoded = decodeBatch(args[1]);
  if (args[0] !== log.args.number) throw new Error(`batch ${args[0]} is not the one of its event`);
  if (dataHash(decoded) !== log.args.dataHash) throw new Error(`batch ${args[0]}: the data is not what was committed`);
  const [l1Rows, txRows] = await client.readContract({
    address: contract, abi, functionName: 'circuit', args: [decoded.circuitId],
  });
  return { decoded, circuit: { l1Rows, txRows } };
}

/**
 * Rebuilds the state from logs and calldata. Gives the state and, for each batch that stands, its public inputs, payouts hash
 * and whether it is proven.
 */
export async function rebuild({ client, contract, abi, fromBlock }) {
  const logs = parseEventLogs({ abi, logs: await client.getLogs({ address: contract, fromBlock, toBlock: 'latest' }) });
  const domain = await client.readContract({ address: contract, abi, functionName: 'domain' });
  const state = new State();
  const [requests, batches, undo] = [new Map(), [], []];
  for (const log of logs) {
    if (log.eventName === 'RequestQueued') requests.set(log.args.id, log.args.request);
    if (log.eventName === 'BatchCommitted') {
      const { decoded, circuit } = await readCommit(client, contract, abi, log);
      const place = { number: log.args.number, domain, oldRoot: state.root() };
      const words = dataVector(decoded, circuit, place);
      undo.push(apply(state, decoded));
      if (state.root() !== decoded.newRoot) throw new Error(`batch ${place.number}: another root`);
      const c = commitment(words, decoded.circuitId);
      const z = challenge(c, log.args.dataHash, words, decoded.beneficiary);
      batches.push({
        number: place.number, decoded, root: decoded.newRoot, isProven: false, transaction: log.transactionHash,
        declared: decoded.commitment, publicInputs: [c, z, evaluate(words, z)], payoutsHash: payoutsHash(payouts(decoded)),
      });
    }
    if (log.eventName === 'BatchProven') {
      const batch = batches[Number(log.args.number) - 1];
      if (batch.payoutsHash !== log.args.payoutsHash) throw new Error(`batch ${batch.number}: other payouts`);
      batch.isProven = true;
    }
    if (log.eventName === 'BatchesDropped') {
      for (let number = log.args.last; number >= log.args.first; number -= 1n) {
        undo.pop()();
        batches.pop();
      }
    }
  }
  return { state, requests, batches };
}

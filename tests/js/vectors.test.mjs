// The JavaScript side against the vectors that Rust and the contract read too: one definition of every byte.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { concat, hexToBytes, toHex } from 'viem';
import {
  R, addressOf, domainOf, eddsa, feeByte, float40, leafOf, ownerFromAddress, poseidon,
} from './protocol.mjs';
import {
  State, apply, challenge, commitment, dataHash, dataVector, decodeBatch, evaluate, payoutRecords, payouts, payoutsHash,
} from './rollup.mjs';
import { Wallet, linkPair } from './wallet.mjs';

const read = async (path) => JSON.parse(await readFile(new URL(`../../${path}`, import.meta.url), 'utf8'));
const wordsOf = (hex) => hex.slice(2).match(/.{64}/g).map((digits) => BigInt(`0x${digits}`));

test('poseidon of every width is the one of the circuits', async () => {
  const vectors = Object.entries(await read('circuits/src/vectors/poseidon.json'));
  assert.ok(vectors.length >= 6);
  for (const [, cases] of vectors) {
    for (const { inputs, hash } of cases) assert.equal(poseidon(...inputs.map(BigInt)), BigInt(hash));
  }
  assert.equal(poseidon(1n, 2n), 7853200120776062878684798364095072458815029376092732009249414926327459813530n);
});

test('signatures are those of the circuits', async () => {
  const vectors = await read('circuits/src/vectors/eddsa.json');
  assert.ok(vectors.length > 0);
  for (const { secret, message, public_key: key, r8, s } of vectors) {
    const bytes = Buffer.from(secret, 'hex');
    assert.deepEqual(eddsa.derivePublicKey(bytes), key.map(BigInt));
    assert.deepEqual(eddsa.signMessage(bytes, BigInt(message)), { R8: r8.map(BigInt), S: BigInt(s) });
  }
});

/** The pinned batch as the contract's struct. L1 rows are told by their words; the depositor is told apart. */
function posted(vector) {
  const words = wordsOf(vector.l1Words);
  const row = (at) => {
    const [head, amount, who, ax, ay] = words.slice(at, at + 5);
    const [kind, index, token] = [Number(head & 0xffn), (head >> 8n) & 0xffffffn, Number(head >> 32n)];
    return kind === 1
      ? { request: { kind, index: 0, token, amount, sender: vector.depositor, owner: who, ax, ay }, result: index }
      : { request: { kind, index: Number(index), token, amount: 0n, sender: toHex(who, { size: 20 }), owner: 0n, ax, ay }, result: amount };
  };
  const [head, , oldRoot, newRoot, feeLeaves] = wordsOf(vector.header);
  const batch = {
    circuitId: Number(head & 0xffffn), timestamp: head >> 80n, newRoot, feeLeaves,
    l1Rows: words.flatMap((_, at) => (at % 5 === 0 ? [row(at)] : [])), rows: vector.rows, extras: vector.extras,
  };
  return { batch, number: (head >> 16n) & 0xffffffffffffffffn, oldRoot };
}

test('a batch has the bytes, the commitment and the public inputs that are pinned', async () => {
  const vector = await read('tests/vectors/batch.json');
  const { batch, number, oldRoot } = posted(vector);
  const domain = domainOf(vector.chainId, vector.contract);
  const decoded = decodeBatch(batch);
  const words = dataVector(decoded, { l1Rows: vector.l1Rows, txRows: vector.transactionRows }, { number, domain, oldRoot });
  assert.deepEqual(words.slice(0, 5), wordsOf(vector.header));
  assert.equal(words.length, 5 + 5 * vector.l1Rows + vector.transactionRows / 2 + 3 * vector.transactionRows);
  assert.equal(dataHash(decoded), vector.dataHash);
  const c = commitment(words, decoded.circuitId);
  assert.equal(c, BigInt(vector.commitment));
  const z = challenge(c, vector.dataHash, words, vector.beneficiary);
  assert.equal(z, BigInt(vector.challenge));
  assert.equal(evaluate(words, z), BigInt(vector.evaluation));
  assert.equal(concat(payoutRecords(payouts(decoded))), vector.payouts);
});

test('a posting that does not decode is refused, whatever is wrong with it', async () => {
  const { batch } = posted(await read('tests/vectors/batch.json'));
  const extras = hexToBytes(batch.extras);
  const cut = (length) => toHex(extras.slice(0, length));
  const twice = concat([cut(34), cut(34)]);
  for (const broken of [cut(1), cut(extras.length - 1), twice, concat([batch.extras, '0xffff'])]) {
    assert.throws(() => decodeBatch({ ...batch, extras: broken }));
  }
  assert.throws(() => decodeBatch({ ...batch, rows: batch.rows.slice(0, -2) }));
  assert.throws(() => decodeBatch({ ...batch, rows: batch.rows.slice(0, -24) }));
});

test('float codes are exact or refused, with the smallest exponent', () => {
  assert.equal(float40.code(0n), 0n);
  assert.equal(float40.code((1n << 35n) - 1n), (1n << 35n) - 1n);
  assert.equal(float40.code(10n ** 18n), (8n << 35n) + 10n ** 10n);
  assert.equal(feeByte.code(1000n), (3n << 3n) + 1n);
  for (let code = 0n; code < 256n; code += 1n) assert.equal(feeByte.value(feeByte.code(feeByte.value(code))), feeByte.value(code));
  assert.throws(() => float40.code((1n << 35n) + 1n));
  assert.throws(() => feeByte.code(71n));
});

test('payment addresses survive a round and refuse every single typing error', () => {
  for (const owner of [1n, R - 1n, poseidon(1n, 2n, 3n)]) {
    const address = addressOf(owner);
    assert.equal(ownerFromAddress(address), owner);
    for (let at = 4; at < address.length; at += 1) {
      const other = address[at] === 'q' ? 'p' : 'q';
      assert.throws(() => ownerFromAddress(address.slice(0, at) + other + address.slice(at + 1)));
    }
  }
  assert.throws(() => ownerFromAddress(addressOf(R)), /payload/);
});

test('the tree hashes what it must, and an undone batch leaves no trace', () => {
  const state = new State();
  let empty = 0n;
  for (let level = 0; level < 12; level += 1) empty = poseidon(empty, empty, empty, empty);
  assert.equal(state.root(), empty);
  const [alice, bob] = [poseidon(7n), poseidon(8n)];
  const deposit = (index, amount) => ({
    request: { kind: 1, index: 0, token: 0, amount, sender: `0x${'00'.repeat(20)}`, owner: alice, ax: 0n, ay: 0n }, result: index,
  });
  const empties = { feeLeaves: 0n, rows: [], extras: new Map() };
  apply(state, { ...empties, l1Rows: [deposit(5n, 100n)] });
  const before = state.root();
  assert.equal(before, rootOfOne(5n, leafOf({ owner: alice, token: 0n, nonce: 0n, balance: 100n })));

  const row = (from, to, amountCode, feeCode = 0n) => ({ from, to, amountCode, feeCode });
  const batch = {
    feeLeaves: 5n, l1Rows: [deposit(5n, 1n)],
    rows: [row(5n, 9n, 40n, 3n), row(0n, 0n, 0n), row(9n, 5n, 15n), row(5n, 0n, 0n)],
    extras: new Map([[0, { owner: bob }], [3, { receiver: '0x', token: 0n, amount: 70n }]]),
  };
  const undo = apply(state, batch);
  assert.deepEqual(state.account(9n), { owner: bob, token: 0n, nonce: 1n, balance: 25n });
  assert.deepEqual(state.account(5n), { owner: alice, token: 0n, nonce: 2n, balance: 101n - 40n + 15n - 70n });
  undo();
  assert.equal(state.root(), before);
  assert.throws(() => apply(state, { ...batch, feeLeaves: 0n }), /fee leaves/);
  assert.throws(() => apply(state, { ...batch, rows: [row(5n, 9n, 400n)] }), /overdrawn/);
});

/** The root of a tree with one leaf, from the definition: digits of the index from the leaf up. */
function rootOfOne(index, leaf) {
  let [node, empty] = [leaf, 0n];
  for (let level = 0n; level < 12n; level += 1n) {
    const children = [empty, empty, empty, empty];
    children[Number((index >> (2n * level)) & 3n)] = node;
    [node, empty] = [poseidon(...children), poseidon(empty, empty, empty, empty)];
  }
  return node;
}

test('a forced exit pays its owner, jumps the nonce, and pays nobody else', () => {
  const state = new State();
  const sender = '0x00000000000000000000000000000000000000aa';
  const owner = poseidon(BigInt(sender), 3n, 4n);
  const batch = (result, changes = {}) => ({
    feeLeaves: 0n, rows: [], extras: new Map(),
    l1Rows: [{ request: { kind: 2, index: 6, token: 2, amount: 0n, sender, owner: 0n, ax: 3n, ay: 4n, ...changes }, result }],
  });
  const account = { owner, token: 2n, nonce: 9n, balance: 50n };
  const leave = (held) => {
    state.set(6n, held);
    apply(state, batch(50n));
    return state.account(6n);
  };
  assert.deepEqual(leave(account), { ...account, balance: 0n, nonce: 9n + 65536n });
  const last = (1n << 40n) - 65536n;
  assert.equal(leave({ ...account, nonce: last - 1n }).nonce, (1n << 40n) - 1n);
  assert.equal(leave({ ...account, nonce: last }).nonce, last, 'where the jump would reach 2^40 the nonce stays');
  state.set(6n, account);
  for (const changes of [{ token: 1 }, { ax: 5n }, { index: 7 }]) {
    apply(state, batch(0n, changes));
    assert.deepEqual(state.account(6n), account);
    assert.throws(() => apply(state, batch(50n, changes)), /pays/);
  }
  assert.equal(payoutsHash(payouts(batch(0n))), `0x${'00'.repeat(32)}`);
});

test('linked transactions name each other, and each signature covers its own link', () => {
  const wallet = new Wallet(Buffer.alloc(32, 7), '0x00000000000000000000000000000000000000aa', 99n);
  const account = { index: 1, token: 0 };
  const [first, second] = linkPair(
    wallet.transfer(account, 0, 5n, 1000n), wallet.transfer({ index: 2, token: 1 }, 3, 6n, 2000n),
  );
  assert.notEqual(first.link, second.link);
  assert.notEqual(wallet.sign(first).id, wallet.sign({ ...first, link: 0n }).id);
});

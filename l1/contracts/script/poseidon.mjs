// Writes src/libraries/Poseidon3.sol and Poseidon4.sol: circomlib's Poseidon of 3 and 4 inputs for the escape path,
// small and cheap. `node script/poseidon.mjs [check]`
//
//   constants (npm poseidon-lite) → partial rounds' constants moved forward → Solidity
//
// Only word 0 passes the S-box of a partial round, so what a partial round adds to the other words commutes with it:
// carried through the matrix it joins the next round's constants. Each partial round then adds one constant, not t.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const here = dirname(fileURLToPath(import.meta.url));
const library = dirname(require.resolve('poseidon-lite')); // its constants are no export
const R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;
const FULL = 8;
const PARTIAL = [56, 57, 56, 60];

const word = (text) => BigInt(`0x${Buffer.from(text, 'base64').toString('hex')}`);

function parameters(inputs) {
  const { C, M } = require(join(library, 'constants', `${inputs}.js`)).default;
  return { constants: C.map(word), matrix: M.map((row) => row.map(word)) };
}

/** The round constants, flat: t for each full round, one for each partial round. */
function movedConstants({ constants, matrix }, inputs) {
  const width = inputs + 1;
  const rounds = FULL + PARTIAL[inputs - 1];
  const table = Array.from({ length: rounds }, (_, k) => constants.slice(k * width, (k + 1) * width));
  for (let k = FULL / 2; k < rounds - FULL / 2; k++) {
    const rest = [0n, ...table[k].slice(1)];
    table[k + 1] = table[k + 1].map((c, i) => rest.reduce((sum, x, j) => (sum + matrix[i][j] * x) % R, c));
    table[k] = [table[k][0]];
  }
  return table.flat();
}

const hex = (value) => value.toString(16).padStart(64, '0');

function source(inputs) {
  const { matrix } = parameters(inputs);
  const constants = movedConstants(parameters(inputs), inputs);
  const width = inputs + 1;
  const list = (prefix, from = 0) => Array.from({ length: width - from }, (_, i) => `${prefix}${i + from}`).join(', ');
  const partialEnd = (FULL / 2) * width + PARTIAL[inputs - 1];
  const row = (i) => {
    const terms = matrix[i].map((m, j) => `mulmod(s${j}, 0x${hex(m)}, r)`);
    return terms.reduce((sum, term) => `add(${sum},\n                    ${term})`);
  };
  const literals = [R, ...constants].map((c) => `        hex"${hex(c)}"`).join('\n');
  return `// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Written by script/poseidon.mjs; do not edit.

/// @title  circomlib's Poseidon of ${inputs} inputs
/// @notice t = ${width}, x^5, ${FULL} full and ${PARTIAL[inputs - 1]} partial rounds; the partial rounds' constants are moved forward so that each
///         adds one.
library Poseidon${inputs} {
    /// @dev r, then ${width} words for each of the first ${FULL / 2} full rounds, 1 for each partial round, ${width} for each of the last ${FULL / 2} full rounds.
    bytes private constant CONSTANTS =
${literals};

    /// @notice The constants in memory, to be loaded once for many hashes.
    function constants() internal pure returns (bytes memory) {
        return CONSTANTS;
    }

    /// @notice Poseidon_${inputs}. The inputs must be below r; \`table\` is constants().
    function hash(bytes memory table, ${Array.from({ length: inputs }, (_, i) => `uint256 x${i + 1}`).join(', ')})
        internal
        pure
        returns (uint256 result)
    {
        // r comes from the table: as a constant the compiler would fetch it from the code each time.
        // No sum overflows: a sum of ${width} products below r is below ${width}·r < 2^256, and every reduction takes 256 bits.
        assembly ("memory-safe") {
            function power5(r, x) -> y {
                y := mulmod(x, x, r)
                y := mulmod(mulmod(y, y, r), x, r)
            }

            function mix(r, ${list('s')}) -> ${list('n')} {
${Array.from({ length: width }, (_, i) => `                n${i} := ${row(i)}`).join('\n')}
            }

            function full(r, c, ${list('s')}) -> ${list('n')} {
                ${list('n')} := mix(
                    r,
${Array.from({ length: width }, (_, i) => `                    power5(r, addmod(s${i}, mload(${i === 0 ? 'c' : `add(c, ${32 * i})`}), r))`).join(',\n')}
                )
            }

            let r := mload(add(table, 32))
            let c := add(table, 64)
            let s0 := 0
${Array.from({ length: inputs }, (_, i) => `            let s${i + 1} := x${i + 1}`).join('\n')}
            for { let end := add(c, ${32 * width * (FULL / 2)}) } lt(c, end) { c := add(c, ${32 * width}) } {
                ${list('s')} := full(r, c, ${list('s')})
            }
            for { let end := add(table, ${64 + 32 * partialEnd}) } lt(c, end) { c := add(c, 32) } {
                ${list('s')} := mix(r, power5(r, addmod(s0, mload(c), r)), ${list('s', 1)})
            }
            for { let end := add(c, ${32 * width * (FULL / 2)}) } lt(c, end) { c := add(c, ${32 * width}) } {
                ${list('s')} := full(r, c, ${list('s')})
            }
            result := mod(s0, r)
        }
    }
}
`;
}

for (const inputs of [3, 4]) {
  const path = join(here, '..', 'src', 'libraries', `Poseidon${inputs}.sol`);
  if (process.argv[2] !== 'check') writeFileSync(path, source(inputs));
  else if (readFileSync(path, 'utf8') !== source(inputs)) throw new Error(`${path} is not what the script writes`);
}

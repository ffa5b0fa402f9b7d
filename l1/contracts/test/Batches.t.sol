// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RollupTest} from "./utils/RollupTest.sol";
import {Reference} from "./utils/Reference.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

/// @title Commit and proof of batches
contract BatchesTest is RollupTest {
    // ------------------------------------------------------------------------------------------------ happy paths

    function test_commitBatch_stores_the_statement_of_an_empty_batch() public {
        commit(draft());
        vm.assertEq(rollup.status().committedBatches, 1);
        vm.assertEq(rollup.status().provenBatches, 0);
    }

    function test_proveBatches_moves_the_root() public {
        IRollup.StoredBatch memory stored = commit(draft());
        prove(stored);
        vm.assertEq(rollup.status().provenRoot, stored.newRoot);
        vm.assertEq(rollup.status().provenBatches, 1);
        vm.assertEq(rollup.status().provenTimestamp, stored.timestamp);
        vm.assertEq(rollup.batchHash(1), 0);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./utils/Test.sol";
import {BatchData} from "../src/libraries/BatchData.sol";
import {IRollup} from "../src/interfaces/IRollup.sol";

contract BatchDataCaller {
    struct Result {
        bytes l1Words;
        bytes32 dataHash;
        uint256 y;
        bytes payouts;
    }

    /// @dev What Rollup does with posted bytes, in the same order.
    function run(IRollup.Batch calldata batch, uint256[5] memory header, uint256 q, uint256 n, uint256 z)
        external
        pure
        returns (Result memory result)
    {
        uint256 count = batch.l1Rows.length;
        bytes memory payouts = BatchData.emptyPayouts(count, batch.extras.length);
        uint256[] memory words = BatchData.l1Words(count);
        for (uint256 j = 0; j < count; ++j) {
            BatchData.writeL1Row(words, j, batch.l1Rows[j].request, batch.l1Rows[j].result);
            BatchData.appendL1Payout(payouts, batch.l1Rows[j].request, batch.l1Rows[j].result);
        }
        result.l1Words = abi.encodePacked(words);
        result.dataHash = BatchData.hash(words, batch.rows, batch.extras);
        uint256 sum = BatchData.evaluateExtras(batch.rows, batch.extras, z, payouts);
        result.y = BatchData.evaluate(header, words, batch.rows, sum, q, n, z);
        result.payouts = payouts;
    }
}

/// @title The bytes that the Rust side pins: the same in, the same out
contract VectorsTest is Test {
    string private json;

    function setUp() public {
        json = vm.readFile("../../tests/vectors/batch.json");
    }

    function _bytes(string memory key) private view returns (bytes memory) {
        return vm.parseJsonBytes(json, key);
    }

    function _word(string memory key) private view returns (uint256) {
        return uint256(bytes32(_bytes(key)));
    }

    function _request(uint8 kind, uint24 index, uint32 token, uint128 amount, address sender)
        private
        pure
        returns (IRollup.Request memory request)
    {
        (request.kind, request.index, request.token) = (kind, index, token);
        (request.amount, request.sender) = (amount, sender);
    }

    function _batch() private view returns (IRollup.Batch memory batch) {
        batch.rows = _bytes(".rows");
        batch.extras = _bytes(".extras");
        batch.l1Rows = new IRollup.L1Row[](4);
        address depositor = address(bytes20(_bytes(".depositor")));
        address sender = 0x5e5E5e5e5E5e5E5E5e5E5E5e5e5E5E5E5e5E5E5e;
        batch.l1Rows[0] = IRollup.L1Row(_request(1, 0, 0, type(uint128).max >> 1, depositor), 0xffffff);
        batch.l1Rows[1] = IRollup.L1Row(_request(1, 0, 0, 77, depositor), 0);
        batch.l1Rows[2] = IRollup.L1Row(_request(2, 3, type(uint32).max, 0, sender), type(uint128).max >> 2);
        batch.l1Rows[3] = IRollup.L1Row(_request(2, 4, type(uint32).max, 0, sender), 0);
        for (uint256 i = 0; i < 4; ++i) {
            IRollup.Request memory q = batch.l1Rows[i].request;
            if (i < 2) q.owner = 0xabcdef;
            else (q.ax, q.ay) = (BatchData.R - 1, 2);
        }
    }

    function test_the_contract_reads_what_rust_writes() public {
        uint256[5] memory header = abi.decode(_bytes(".header"), (uint256[5]));
        (uint256 q, uint256 n) = (vm.parseJsonUint(json, ".l1Rows"), vm.parseJsonUint(json, ".transactionRows"));
        uint256 z = _word(".challenge");
        BatchDataCaller.Result memory r = new BatchDataCaller().run(_batch(), header, q, n, z);
        vm.assertEq(keccak256(r.l1Words), keccak256(_bytes(".l1Words")));
        vm.assertEq(r.dataHash, bytes32(_bytes(".dataHash")));
        vm.assertEq(r.y, _word(".evaluation"));
        vm.assertEq(keccak256(r.payouts), keccak256(_bytes(".payouts")));
    }

    function test_the_challenge_is_the_one_rust_computes() public view {
        uint256[5] memory header = abi.decode(_bytes(".header"), (uint256[5]));
        address beneficiary = address(bytes20(_bytes(".beneficiary")));
        bytes32 hash = keccak256(abi.encode(_word(".commitment"), _word(".dataHash"), header, beneficiary));
        vm.assertEq(uint256(hash) % BatchData.R, _word(".challenge"));
        address rollup = address(bytes20(_bytes(".contract")));
        uint256 domain = uint256(keccak256(abi.encode("millrace-rollup-1", 31337, rollup))) >> 8;
        vm.assertEq(header[1], domain);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./utils/Test.sol";
import {Channels} from "../src/Channels.sol";
import {IChannels} from "../src/interfaces/IChannels.sol";
import {ChannelDigests} from "../src/libraries/ChannelDigests.sol";
import {LockList} from "../src/libraries/LockList.sol";

/// @dev The libraries take calldata.
contract LibraryCaller {
    function recover(bytes32 digest, bytes calldata signature) external pure returns (address) {
        return ChannelDigests.recover(digest, signature);
    }

    function requireRoot(bytes calldata list, bytes32 root) external pure {
        LockList.requireRoot(list, root);
    }
}

/// @title Ids, digests, signatures and lists are what viem makes of them, and what Rust reads
contract ChannelVectorsTest is Test {
    struct Known {
        Channels channels;
        IChannels.Params params;
        bytes32 id;
    }

    string private json;
    Known[] private known;
    LibraryCaller private caller;

    function setUp() public {
        json = vm.readFile("../../channels/vectors/eip712.json");
        caller = new LibraryCaller();
        vm.chainId(31337);
        for (uint256 i = 0; _exists(".channels", i); ++i) {
            string memory row = _at(".channels", i);
            Known storage channel = known.push();
            channel.channels = _deployed(_uint(row, ".domain"));
            channel.id = _word(row, ".id");
            channel.params = IChannels.Params(
                _address(row, ".signerA"),
                _address(row, ".payoutA"),
                _address(row, ".signerB"),
                _address(row, ".payoutB"),
                _address(row, ".token"),
                uint32(_uint(row, ".window")),
                uint64(_uint(row, ".salt"))
            );
        }
        vm.assertTrue(known.length == 4);
    }

    /// @dev The contract at the address and on the chain of a domain.
    function _deployed(uint256 index) private returns (Channels at_) {
        string memory row = _at(".domains", index);
        at_ = Channels(_address(row, ".verifyingContract"));
        if (address(at_).code.length != 0) return at_;
        vm.chainId(_uint(row, ".chainId"));
        bytes memory code = vm.getCode("Channels.sol:Channels");
        vm.etch(address(at_), code);
        // The constructor runs where it lies and returns what stays there.
        (bool ok, bytes memory runtime) = address(at_).call("");
        vm.assertTrue(ok);
        vm.etch(address(at_), runtime);
        vm.assertEq(at_.DOMAIN_SEPARATOR(), _word(row, ".separator"));
    }

    function test_a_domain_names_its_parts() public view {
        for (uint256 i = 0; i < 2; ++i) {
            string memory row = _at(".domains", i);
            Channels channels = Channels(_address(row, ".verifyingContract"));
            (bytes1 fields, string memory name, string memory version, uint256 chainId, address self,,) =
                channels.eip712Domain();
            vm.assertEq(uint256(uint8(fields)), 15);
            vm.assertEq(keccak256(bytes(name)), keccak256("Millrace Channel"));
            vm.assertEq(keccak256(bytes(version)), keccak256("1"));
            vm.assertEq(chainId, _uint(row, ".chainId"));
            vm.assertEq(self, address(channels));
        }
    }

    function test_channelId_is_the_hash_of_domain_and_parameters() public view {
        for (uint256 i = 0; i < known.length; ++i) {
            vm.assertEq(known[i].channels.channelId(known[i].params), known[i].id);
            vm.assertEq(keccak256(_bytes(_at(".channels", i), ".encoded")), known[i].id);
        }
    }

    function test_lists_hash_to_their_roots() public {
        uint256 i = 0;
        for (; _exists(".lists", i); ++i) {
            string memory row = _at(".lists", i);
            bytes memory packed;
            for (
                uint256 j = 0;
                vm.keyExistsJson(json, string.concat(_at(string.concat(row, ".locks"), j), ".hash"));
                ++j
            ) {
                string memory lock = _at(string.concat(row, ".locks"), j);
                vm.assertEq(sha256(_bytes(lock, ".preimage")), _word(lock, ".hash"));
                packed = abi.encodePacked(
                    packed, _word(lock, ".hash"), uint128(_uint(lock, ".amount")), uint64(_uint(lock, ".expiry"))
                );
                if (j == 4) break; // the long list is compared whole below
            }
            bytes memory list = _bytes(row, ".packed");
            if (list.length <= 5 * 56) vm.assertEq(keccak256(packed), keccak256(list));
            caller.requireRoot(list, _word(row, ".root"));
            vm.expectRevert();
            caller.requireRoot(list, bytes32(uint256(_word(row, ".root")) ^ 1));
        }
        vm.assertEq(i, 4);
    }

    function test_snapshots_have_their_digest_and_signers() public view {
        uint256 i = 0;
        for (; _exists(".snapshots", i); ++i) {
            string memory row = _at(".snapshots", i);
            Known storage channel = known[_uint(row, ".channel")];
            IChannels.Halves memory halves = IChannels.Halves(
                IChannels.Half(uint64(_uint(row, ".versionA")), uint112(_uint(row, ".paidA")), _word(row, ".locksA")),
                IChannels.Half(uint64(_uint(row, ".versionB")), uint112(_uint(row, ".paidB")), _word(row, ".locksB"))
            );
            _agrees(row, channel, channel.channels.snapshotDigest(channel.id, halves));
            vm.assertEq(halves.a.locks, _word(_at(".lists", _uint(row, ".listA")), ".root"));
        }
        vm.assertEq(i, 5);
    }

    function test_coops_have_their_digest_and_signers() public view {
        uint256 i = 0;
        for (; _exists(".coops", i); ++i) {
            string memory row = _at(".coops", i);
            Known storage channel = known[_uint(row, ".channel")];
            bytes32 digest = channel.channels
                .coopDigest(
                    channel.id,
                    uint32(_uint(row, ".epoch")),
                    uint112(_uint(row, ".payA")),
                    uint112(_uint(row, ".payB")),
                    uint64(_uint(row, ".validUntil"))
                );
            _agrees(row, channel, digest);
        }
        vm.assertEq(i, 4);
    }

    function test_closes_have_their_digest_and_signers() public view {
        uint256 i = 0;
        for (; _exists(".closes", i); ++i) {
            string memory row = _at(".closes", i);
            Known storage channel = known[_uint(row, ".channel")];
            _agrees(row, channel, channel.channels.closeDigest(channel.id, uint64(_uint(row, ".validUntil"))));
        }
        vm.assertEq(i, 3);
    }

    function _agrees(string memory row, Known storage channel, bytes32 digest) private view {
        vm.assertEq(digest, _word(row, ".digest"));
        bytes memory typed = abi.encodePacked(hex"1901", channel.channels.DOMAIN_SEPARATOR(), _word(row, ".structHash"));
        vm.assertEq(keccak256(typed), digest);
        vm.assertEq(caller.recover(digest, _bytes(row, ".signatureA")), channel.params.signerA);
        vm.assertEq(caller.recover(digest, _bytes(row, ".signatureB")), channel.params.signerB);
    }

    function test_no_signature_that_is_not_canonical_is_anybodys() public view {
        uint256 i = 0;
        for (; _exists(".refused", i); ++i) {
            string memory row = _at(".refused", i);
            address recovered = caller.recover(_word(row, ".digest"), _bytes(row, ".signature"));
            vm.assertTrue(recovered != _address(row, ".signer"));
        }
        vm.assertEq(i, 9);
    }

    function _at(string memory array, uint256 index) private pure returns (string memory) {
        bytes memory digits;
        do {
            digits = bytes.concat(bytes1(uint8(48 + index % 10)), digits);
            index /= 10;
        } while (index != 0);
        return string.concat(array, "[", string(digits), "]");
    }

    function _exists(string memory array, uint256 index) private view returns (bool) {
        return vm.keyExistsJson(json, _at(array, index));
    }

    function _uint(string memory row, string memory key) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(row, key));
    }

    function _word(string memory row, string memory key) private view returns (bytes32) {
        return bytes32(_bytes(row, key));
    }

    function _bytes(string memory row, string memory key) private view returns (bytes memory) {
        return vm.parseJsonBytes(json, string.concat(row, key));
    }

    function _address(string memory row, string memory key) private view returns (address) {
        return vm.parseJsonAddress(json, string.concat(row, key));
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Written by script/poseidon.mjs; do not edit.

/// @title  circomlib's Poseidon of 4 inputs
/// @notice t = 5, x^5, 8 full and 60 partial rounds; the partial rounds' constants are moved forward so that each
///         adds one.
library Poseidon4 {
    /// @dev r, then 5 words for each of the first 4 full rounds, 1 for each partial round, 5 for each of the last 4 full rounds.
    bytes private constant CONSTANTS =
        hex"30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001"
        hex"0eb544fee2815dda7f53e29ccac98ed7d889bb4ebd47c3864f3c2bd81a6da891"
        hex"0554d736315b8662f02fdba7dd737fbca197aeb12ea64713ba733f28475128cb"
        hex"2f83b9df259b2b68bcd748056307c37754907df0c0fb0035f5087c58d5e8c2d4"
        hex"2ca70e2e8d7f39a12447ac83052451b461f15f8b41a75ef31915208f5aba9683"
        hex"1cb5f9319be6a45e91b04d7222271c94994196f12ed22c5d4ec719cb83ecfea9"
        hex"2eb4f99c69f966ebf8a42192de7ff61621c7bb47b93750c2b9ea08d18446c122"
        hex"224a28e5a35385a7c5198169e405d9ea0fc7da8b93ee13b6d5f7d099e299520e"
        hex"0f7411b465e600eed8afdd6afca49c3036f33ecbd9a0f97823796b993bbd82f7"
        hex"0f9d0d5aad2c9555a2be7150392d8d9819b208ae3370f99a0626f9ff5d90e4e3"
        hex"1e9a96dc8292bb596f52a59538d329229732b25259cf744b6a12d30702d6fba0"
        hex"08780514ccd90380887d578c45555e593cfe52eab4b945c6c2cd4d528fb3fe3c"
        hex"272498fced686c7ac8149fa3f73ef8c2ced64717e3556d5a59f119d629ccb5fc"
        hex"01ef8f9dd7c93aac4b7cb80930bd06eb45bd350aff585f10e3d0ef8a782ef7df"
        hex"045b9f59b6595e614dc08f222b469b138e886e64bf3c40aa97ea0ae754934d30"
        hex"0ac1e91c57d9da919fd6f59d2a40ff8ea3e41e24e247a387adf2584295d61c66"
        hex"028a1621a94054b0c7f9a421353cd89d0fd67061aee99979d12e68f04e62d134"
        hex"26b41802c071ea4c9632647ed059236e50c19c3fb3c96d09d02aae2a0dcd9dbc"
        hex"2fb5dda8072bb72cbaac2f63e468215e05c9de06758db6a94af34384aedb462b"
        hex"2212d3a0f5fccaf244ff3547fd823249ad8ab8ba2a18d383dd05c56ee894d850"
        hex"1b041ad5b2f0684258e4dfaeea09be56a3276fdb19f44c015cd0c7eed465e2e3"
        hex"0a01776bb22f4b6b8eccff33e76fded3144fb7e3ac14e846a91e64afb1500eff"
        hex"09d8db1e10531681407aaf525e01aecfbbb0a20ee68b595a72b78cc72ce6a73e"
        hex"151efb27426ad51d3874abc4ce05faeb67758bb33760c644d8ab001b9941608b"
        hex"2cf5a51438538da9d608292c8a4ba4baf6f356706d9bfad6b96aa9c5ef38faa4"
        hex"14c074b8d3806789ee1642c41c4aa5ff2eb5e586aaf71676aede09c850cb3bbd"
        hex"1434eed9fd6ccfb679cae98d38fba1b3b34156948b47e020568dbe0182543960"
        hex"1a99e9ee433de4876d9cdf34d63216472288e9335e27e61c9f5d11b82e079ec7"
        hex"1d58137fe94a35e78bd29b738c804f92bface4c6815a8b144ec25941d1ebde74"
        hex"1bbefcec59b523c3fd35b2e3d323375b5a646afb65a0506f5d1ed45454e66016"
        hex"05323a5b7e5aa659e91b7f75adb0583b3f959e034e0e5a410248b788d2fbf362"
        hex"1e53285d3dbbb3a8d9a6d9791aa68cd402de6536b624c1f794bb7dd92d935dcc"
        hex"07fb892ef8f0ed888c90336b5a0926fb34cb96d7368d288fb477826d651f82f2"
        hex"0b515b464a837b928c030540ccd082861322cd4c56b5c112bb8efa6351402dec"
        hex"2c6ad0c9cb1810417ed6abcb6a84a60608651a1d9e6f30d323a1a0edea71c902"
        hex"12873d46d984c662165f19c232f05b381052b7d1f1ace004b4970f142c92c719"
        hex"3017c866411ce594a6c4f2010a0653340ac2c9c6107b5ab43c9e84a7a68d0a0a"
        hex"1ab3fc0f89372cee5ddb35a2ede99ca6e8172167c96a656cd72a683e3c4eee17"
        hex"20c3f011236970f8ec88afe462e3138d2eed726499e0c485de20eec8d1697f5b"
        hex"0298f303d47f472e0c5d0b410298320827b0a5ad8c66c5e6aa34de95669bbe1b"
        hex"208ac5eeacde932fb4302bc9f244899fe129d25234ab8cd22a836c5e71091424"
        hex"0f2ca813808c8469435d649edb0730ae33c2e86928cd086e4e33efd34950351e"
        hex"1520c64e5fb5c99a7b68e3e03cdbb90b2f59fe97898bc02cffa9de2e8e1da88c"
        hex"21a28ccdb1d042ec15fefbb498777aeb719b86be42f2608ec9bf4bc517b3cafc"
        hex"2cdae0355cdf1070275a3bdd9d7ab980dffdbb615a7ed86cd697c70a22a7cc05"
        hex"1d27a5e0293d22dcf7aaee1e6a67c3292f65e3480a4d9765c976b6c9be52b685"
        hex"2691be3ee1df97377a701b992d8eef4671272684a513b59d4cd36a09124b4a14"
        hex"146c4fa473f5428073fb5fa8cb65f1ac852c5f4402d185b25b999133056a6c2c"
        hex"00f5bdb573e15214433025064b3e17ff482eb98e28f55f2c634781e4de98b550"
        hex"2a238a6cb670408d1cf3482472eb7721f4f9b982853d7b33418a013e34daa266"
        hex"3019c8789ac42055c829293cada0a8fb56955dd7559e16c2f1c8e4024dc0ca2e"
        hex"2303beee75071614370ab3ec96b318a4b2c3ff4218417966ac656533023190df"
        hex"286aeec5c4030177d3b81814fbb0faa80fbee808e1206c0bded75dcbbb70aa85"
        hex"1587337ad03036c3b4d82f7cce42b8a7a5b8452e9d098954f29d08cd1f7864f3"
        hex"226c3b55657adacbc72c378cd9802aa4ff94298a6efcdc641a4da4530985ab9f"
        hex"255007cb4495b034ec1fbd8506ec2f26fa3f80ebcf3ec284a0f23147a5735166"
        hex"02d4133c9f09da5700555df45e8c82c87d1f4ec891b53bd0d9ebf21b6cce37e3"
        hex"109dba8937cbdfd914627fa0bba13a1508528cf4df56b0c07c23b51d09d127f6"
        hex"147936b3fd03ca1f1ddf9081c23ebad94bdd42c86c1c58316521b42f5482b23f"
        hex"1c31fbc9febc9ba157526d33fa411ebff9808868831bae843468de84d7e9331a"
        hex"18ecf5e6a035d1204fe5194b3c38fc00384fadd45acb9eef58b225642b491e05"
        hex"2fd1e44b644f4a07c9e30bb89885187683c3549e28774ad2ac080dc409be0b4a"
        hex"276339d9ad99aa77f8becf048f4512f96f4cf6948c3815d09ff6f3632eead0e2"
        hex"05ed1ff19f1a54e0d18bee962faab3a8f8f999f358514c7b3c50b1bc8f890a91"
        hex"23f7a8ce33fccf2f75395f46b1b2d6a51f72a62caea8b5aaa1f819db7a230b3c"
        hex"2767d9e8059193f2ecb8b77e12fe38dbd1430e43672a3b4ee73789c3b67d4233"
        hex"2805951a06db2531ad19fb97a85cfddc7654f1d663102e45742e4e13728550a4"
        hex"1edd84a843583eb4753d8670bf0cda7bbd690a54e756b231e040f0da20ba6b3c"
        hex"21cea290380518eef8f31162cf8624766526c28953fbc248301787c6a9bc082e"
        hex"041b116370212c62e6c621444681d5b37e8a8cd7027646a7a292d1bb2a8b884d"
        hex"01555fcdcf02d909cf1a95811bcd2c1823f1c24df281b1a16c68e789c6ed53ca"
        hex"1c06657b32ae9acf0a43176a46fc1d6b7a4cc3b66f3de49deb235694a89a93fd"
        hex"0d32adb776a343cf9b20a974fdc9e169cefec52aeaa4abcaeee770050b49cb13"
        hex"18ada57fba9608a3bbac607467d428f35da2d1c2a3055a20563fdffa845e362a"
        hex"0d3eba9b435e6ddd9ffb1e299ca3663cf14fe655f22866b1eef0e47f14fd271f"
        hex"02d000bc10e747aa5a27a1fb069f6f9680300001ddd7a74b94b86e89917f9259"
        hex"0d64bebe8571c4534fef423cde86c35b755bfb86e3110c6392ca4ed81d10f29b"
        hex"2dbbf275e85a4d0b6d0c7f95be54cbb86a0630bfc38c230cea833ca469729705"
        hex"260d6aa6f101e27922715e1ea1ab3b5ee9b2dcc2b1934f6233c97f6ce80e9119"
        hex"0d049af9615baa1daded16cc5bbdf17064cc6d134e2875c8da730c8875a371bf"
        hex"039e3bcd53336ceb3f3d1fbff42664a6a6c3a69d226e15d1afd921ee80f66cc0"
        hex"125063ad821893043ac0a9607db015544523493016296da045a99638ec0d348d"
        hex"1374d180cbdf06f3f1bf189d3a79cce15e519b369ee528594dcd87e7dd5d0dde"
        hex"2d950d8443ed86b476bbb8274c33e9dfd9e391e4b92d52a4d09b111076a9ea6f"
        hex"031ca8713e84a4ff5523f892c05771dde5482834f4d806057bf4204c346efd19"
        hex"1c922a706055402e2a7678c0348561bfd11117596de5e53796915f61ef6d347d"
        hex"17c31ea02fbc378320d86ffed6c7ca1583b618c5c1a687818d4087a497d73490"
        hex"05b86c4bb8ef318b6a7227e4192d149d3c17a9764ccd660de4d50a77f192a91b"
        hex"265bc95df4a4c4876ff70d7ea2fde2c7ab15f4a6ae0d237cd6ce74ba986c7a7b"
        hex"24752b47bc6c6bc8d9bbe48f5fef2f6908701739c5f5b4b3d6c886d4715c7929"
        hex"14814a1e0f492a4ea0d86e527a96482178d624b98da96ee5e583b9324d974efe"
        hex"10def931073b6479bd60577378f29381997c8e041d3cfb3dc7523bca906f00bd"
        hex"14f7ae770bf7e95f7f706c0d8ab4ed03fa0b880d28c69d031b4592c98610175f"
        hex"1aef50a0cee751b59f926af40e8035d19decc9d428ebe4e775c5cc9dce1ce589"
        hex"041935607172f68eba65ca60068dfe3b086c2a2d57d09602951214b57e73cf5a"
        hex"26863e9dd24255d1573bd083959b856c0493fbefe83c819837a151d3bf452cb8"
        hex"2036efb6f9830965eb3d7a068bd087c9f5adf251ba62052c652738e63ff8b3af"
        hex"0c712a975b74dc9d766b639a029969ca30be4f75a753f854b00fa4f1b4f4ee9b"
        hex"08014dab3cd1667e27afc99bfac1e6807afdff6456492ca3375731d387539699"
        hex"198d07192db4fac2a82a4a79839d6a2b97c4dd4d37b4e8f3b53009f79b34e6a4"
        hex"29eb1de42a3ad381b23b4131426897a32709b29d53bb946dfd15784d1f63e572";

    /// @notice The constants in memory, to be loaded once for many hashes.
    function constants() internal pure returns (bytes memory) {
        return CONSTANTS;
    }

    /// @notice Poseidon_4. The inputs must be below r; `table` is constants().
    function hash(bytes memory table, uint256 x1, uint256 x2, uint256 x3, uint256 x4)
        internal
        pure
        returns (uint256 result)
    {
        // r comes from the table: as a constant the compiler would fetch it from the code each time.
        // No sum overflows: a sum of 5 products below r is below 5·r < 2^256, and every reduction takes 256 bits.
        assembly ("memory-safe") {
            function power5(r, x) -> y {
                y := mulmod(x, x, r)
                y := mulmod(mulmod(y, y, r), x, r)
            }

            function mix(r, s0, s1, s2, s3, s4) -> n0, n1, n2, n3, n4 {
                n0 := add(add(add(add(mulmod(s0, 0x251e7fdf99591080080b0af133b9e4369f22e57ace3cd7f64fc6fdbcf38d7da1, r),
                    mulmod(s1, 0x25fb50b65acf4fb047cbd3b1c17d97c7fe26ea9ca238d6e348550486e91c7765, r)),
                    mulmod(s2, 0x293d617d7da72102355f39ebf62f91b06deb5325f367a4556ea1e31ed5767833, r)),
                    mulmod(s3, 0x104d0295ab00c85e960111ac25da474366599e575a9b7edf6145f14ba6d3c1c4, r)),
                    mulmod(s4, 0x0aaa35e2c84baf117dea3e336cd96a39792b3813954fe9bf3ed5b90f2f69c977, r))
                n1 := add(add(add(add(mulmod(s0, 0x2a70b9f1d4bbccdbc03e17c1d1dcdb02052903dc6609ea6969f661b2eb74c839, r),
                    mulmod(s1, 0x281154651c921e746315a9934f1b8a1bba9f92ad8ef4b979115b8e2e991ccd7a, r)),
                    mulmod(s2, 0x28c2be2f8264f95f0b53c732134efa338ccd8fdb9ee2b45fb86a894f7db36c37, r)),
                    mulmod(s3, 0x21888041e6febd546d427c890b1883bb9b626d8cb4dc18dcc4ec8fa75e530a13, r)),
                    mulmod(s4, 0x14ddb5fada0171db80195b9592d8cf2be810930e3ea4574a350d65e2cbff4941, r))
                n2 := add(add(add(add(mulmod(s0, 0x2f69a7198e1fbcc7dea43265306a37ed55b91bff652ad69aa4fa8478970d401d, r),
                    mulmod(s1, 0x001c1edd62645b73ad931ab80e37bbb267ba312b34140e716d6a3747594d3052, r)),
                    mulmod(s2, 0x15b98ce93e47bc64ce2f2c96c69663c439c40c603049466fa7f9a4b228bfc32b, r)),
                    mulmod(s3, 0x12c7e2adfa524e5958f65be2fbac809fcba8458b28e44d9265051de33163cf9c, r)),
                    mulmod(s4, 0x2efc2b90d688134849018222e7b8922eaf67ce79816ef468531ec2de53bbd167, r))
                n3 := add(add(add(add(mulmod(s0, 0x0c3f050a6bf5af151981e55e3e1a29a13c3ffa4550bd2514f1afd6c5f721f830, r),
                    mulmod(s1, 0x0dec54e6dbf75205fa75ba7992bd34f08b2efe2ecd424a73eda7784320a1a36e, r)),
                    mulmod(s2, 0x1c482a25a729f5df20225815034b196098364a11f4d988fb7cc75cf32d8136fa, r)),
                    mulmod(s3, 0x2625ce48a7b39a4252732624e4ab94360812ac2fc9a14a5fb8b607ae9fd8514a, r)),
                    mulmod(s4, 0x07f017a7ebd56dd086f7cd4fd710c509ed7ef8e300b9a8bb9fb9f28af710251f, r))
                n4 := add(add(add(add(mulmod(s0, 0x2a20e3a4a0e57d92f97c9d6186c6c3ea7c5e55c20146259be2f78c2ccc2e3595, r),
                    mulmod(s1, 0x1049f8210566b51faafb1e9a5d63c0ee701673aed820d9c4403b01feb727a549, r)),
                    mulmod(s2, 0x02ecac687ef5b4b568002bd9d1b96b4bef357a69e3e86b5561b9299b82d69c8e, r)),
                    mulmod(s3, 0x2d3a1aea2e6d44466808f88c9ba903d3bdcb6b58ba40441ed4ebcf11bbe1e37b, r)),
                    mulmod(s4, 0x14074bb14c982c81c9ad171e4f35fe49b39c4a7a72dbb6d9c98d803bfed65e64, r))
            }

            function full(r, c, s0, s1, s2, s3, s4) -> n0, n1, n2, n3, n4 {
                n0, n1, n2, n3, n4 := mix(
                    r,
                    power5(r, addmod(s0, mload(c), r)),
                    power5(r, addmod(s1, mload(add(c, 32)), r)),
                    power5(r, addmod(s2, mload(add(c, 64)), r)),
                    power5(r, addmod(s3, mload(add(c, 96)), r)),
                    power5(r, addmod(s4, mload(add(c, 128)), r))
                )
            }

            let r := mload(add(table, 32))
            let c := add(table, 64)
            let s0 := 0
            let s1 := x1
            let s2 := x2
            let s3 := x3
            let s4 := x4
            for { let end := add(c, 640) } lt(c, end) { c := add(c, 160) } {
                s0, s1, s2, s3, s4 := full(r, c, s0, s1, s2, s3, s4)
            }
            for { let end := add(table, 2624) } lt(c, end) { c := add(c, 32) } {
                s0, s1, s2, s3, s4 := mix(r, power5(r, addmod(s0, mload(c), r)), s1, s2, s3, s4)
            }
            for { let end := add(c, 640) } lt(c, end) { c := add(c, 160) } {
                s0, s1, s2, s3, s4 := full(r, c, s0, s1, s2, s3, s4)
            }
            result := mod(s0, r)
        }
    }
}

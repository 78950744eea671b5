//! Commands nobody would send: every field drawn blindly from what is extreme, small, or there. Whatever comes, a
//! decision is made: `decide` panics at nothing, and what it decides can be applied and decided upon again.
//!
//! Commands are drawn by their own layout (a serde deserializer that invents what it is asked for), so that those that
//! are added later are drawn as well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::{ProptestConfig, any, proptest};
use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;
use support::{HDD, World, class, device, registration};
use ullage_model::command::{Command, Reply};
use ullage_model::decide::decide;
use ullage_model::fat::rows::InlineRow;
use ullage_model::ids::ClusterId;
use ullage_model::step::At;

/// Commands of one case.
const COMMANDS: usize = 60;
/// Longest sequence that is drawn.
const LENGTH_MAX: usize = 3;
/// Numbers that ids of the first rows have, and bounds of things.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    4096,
    1 << 20,
    (1 << 20) + 16,
    1 << 32,
    (1 << 48) - 1,
    1 << 48,
    (1 << 48) + 1,
    1 << 54,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];
const TEXTS: &[&str] = &[
    "",
    "STANDARD",
    "hdd",
    "vendor",
    "bucket",
    "key",
    "a/b",
    "\u{10ffff}",
];

/// A stream of choices that follows from a seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn number(&mut self) -> u64 {
        NUMBERS[self.below(NUMBERS.len())]
    }

    fn text(&mut self) -> &'static str {
        TEXTS[self.below(TEXTS.len())]
    }
}

/// What cannot be drawn: a type checks its content itself.
#[derive(Debug)]
struct Undrawable(String);

impl fmt::Display for Undrawable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Undrawable {}

impl de::Error for Undrawable {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident: $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
            // Cut to its width: the greatest stays the greatest.
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
            visitor.$visit(self.number() as $type)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Draw {
    type Error = Undrawable;

    numbers!(
        deserialize_u8 => visit_u8: u8,
        deserialize_u16 => visit_u16: u16,
        deserialize_u32 => visit_u32: u32,
        deserialize_u64 => visit_u64: u64,
        deserialize_i8 => visit_i8: i8,
        deserialize_i16 => visit_i16: i16,
        deserialize_i32 => visit_i32: i32,
        deserialize_i64 => visit_i64: i64,
    );

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        let (high, low) = (self.number(), self.number());
        visitor.visit_u128(u128::from(high) << 64 | u128::from(low))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_bool(self.below(2) == 0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_str(self.text())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_bytes(self.text().as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_byte_buf(self.text().as_bytes().to_vec())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        match self.below(2) {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Undrawable> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawable> {
        let left = self.below(LENGTH_MAX + 1);
        visitor.visit_seq(Fields { draw: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Undrawable> {
        visitor.visit_seq(Fields {
            draw: self,
            left: length,
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Undrawable> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undrawable> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undrawable> {
        let variant = u32::try_from(self.below(variants.len())).unwrap();
        visitor.visit_enum(Variant { draw: self, variant })
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Undrawable> {
        Err(Undrawable("a type that does not say what it is".to_owned()))
    }

    serde::forward_to_deserialize_any! { f32 f64 char map identifier ignored_any unit_struct }
}

struct Fields<'a> {
    draw: &'a mut Draw,
    left: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = Undrawable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Undrawable> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.draw).map(Some)
    }
}

struct Variant<'a> {
    draw: &'a mut Draw,
    variant: u32,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Undrawable;
    type Variant = Content<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Content<'a>), Undrawable> {
        let name: U32Deserializer<Undrawable> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.draw)))
    }
}

struct Content<'a>(&'a mut Draw);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Undrawable;

    fn unit_variant(self) -> Result<(), Undrawable> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Undrawable> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Undrawable> {
        self.0.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undrawable> {
        self.0.deserialize_tuple(fields.len(), visitor)
    }
}

/// A cluster of two vendors with a session in it.
fn world() -> World {
    let mut world = World::default();
    world.unchecked = true;
    let first = [
        Command::Initialise {
            cluster: ClusterId(1),
            classes: vec![class(1, 0)],
            inline: InlineRow {
                cap_bytes: 4096,
                budget_bytes: u64::MAX,
                used_bytes: 0,
            },
        },
        Command::RegisterVendor(registration("vendor", "zone", vec![device(1, HDD, 1 << 40)])),
        Command::RegisterVendor(registration("other", "zone", vec![device(1, HDD, 1 << 40)])),
        Command::OpenSession {
            gateway: "gateway".to_owned(),
            instance: 1,
        },
    ];
    for command in &first {
        let reply = world.decide(command);
        assert!(!matches!(reply, Reply::Refused(_)), "{command:?}: {reply:?}");
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_command_makes_decide_panic(seed in any::<u64>()) {
        let mut draw = Draw(seed);
        let mut world = world();
        let mut drawn = 0;
        for number in 0..COMMANDS {
            let Ok(command) = Command::deserialize(&mut draw) else { continue };
            drawn += 1;
            let at = At {
                // An index that is near its end must not be trouble either; it never goes back.
                index: world.index + 1 + number as u64,
                cluster_time: ullage_model::fat::query::cluster_time(&world.rows).unwrap(),
            };
            // Rows that contradict each other are told as such; they are no reason to panic.
            if let Ok(decision) = decide(&world.rows, at, &command) {
                world.rows.apply(decision.changes);
            }
        }
        assert!(drawn > COMMANDS / 2, "only {drawn} commands could be drawn");
    }
}

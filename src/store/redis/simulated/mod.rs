//! A simulated Redis for tests: keys in memory, a clock that the test moves, and the real scripts in a real Lua.
//!
//! It knows the commands that the scripts and the store use. A test runs the same calls here and on a real server, and compares
//! the replies and all keys.

mod lua;
mod tests;

use ::redis::{Cmd, Value};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A bulk string.
type Bytes = Vec<u8>;

/// One server: its keys, its clock, and the scripts it knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated {
    /// Shared with copies of the server until one of them changes the key.
    keys: BTreeMap<Bytes, Arc<Key>>,
    /// The server's clock, in epoch milliseconds.
    pub(crate) now: u64,
    /// Hashes of the scripts that were sent with their text.
    scripts: HashMap<String, Arc<[u8]>>,
    /// What was published since it was last taken: channel and message.
    published: Vec<(Bytes, Bytes)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Key {
    data: Data,
    /// The epoch millisecond at which it is gone.
    expires: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Data {
    Text(Bytes),
    /// In the order of insertion, as small hashes are kept.
    Hash(Vec<(Bytes, Bytes)>),
    List(Vec<Bytes>),
    /// Members with their scores, in order.
    Sorted(Vec<(i64, Bytes)>),
}

/// The reply to a command: an error as its message.
type Reply = Result<Value, String>;

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

impl Simulated {
    /// Takes what was published since the last call.
    pub(crate) fn take_published(&mut self) -> Vec<String> {
        std::mem::take(&mut self.published)
            .into_iter()
            .map(|(_, message)| String::from_utf8_lossy(&message).into_owned())
            .collect()
    }

    /// Loses all keys and scripts, as an empty restart does.
    pub(crate) fn forget(&mut self) {
        self.keys.clear();
        self.scripts.clear();
    }

    /// Loses one key.
    pub(crate) fn evict(&mut self, key: &str) {
        self.keys.remove(key.as_bytes());
    }

    /// The fields of a hash; none where there is no such key.
    pub(crate) fn hash(&mut self, key: &str) -> HashMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self.key(key.as_bytes()) {
            Some(Key { data: Data::Hash(fields), .. }) => {
                fields.iter().map(|(field, value)| (text(field), text(value))).collect()
            }
            _ => HashMap::new(),
        }
    }

    /// One field of a hash.
    pub(crate) fn field(&mut self, key: &str, field: &str) -> Option<String> {
        let Data::Hash(fields) = &self.key(key.as_bytes())?.data else { return None };
        let (_, value) = fields.iter().find(|(name, _)| name == field.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The names of all keys.
    fn names(&mut self) -> HashSet<String> {
        let now = self.now;
        self.keys.retain(|_, key| key.expires.is_none_or(|at| at > now));
        self.keys.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Runs one command.
    pub(crate) fn run(&mut self, words: &[Bytes]) -> Reply {
        let Some((name, words)) = words.split_first() else { return Err("ERR empty command".to_owned()) };
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        match (name.as_str(), words) {
            ("TIME", []) => Ok(array([self.now / 1000, self.now % 1000 * 1000].map(|part| text(&part.to_string())))),
            ("GET", [key]) => match self.key(key) {
                None => Ok(Value::Nil),
                Some(Key { data: Data::Text(text), .. }) => Ok(Value::BulkString(text.clone())),
                Some(_) => Err(WRONG_TYPE.to_owned()),
            },
            ("SET", [key, value]) => {
                self.keys.insert(key.clone(), Arc::new(Key { data: Data::Text(value.clone()), expires: None }));
                Ok(Value::Okay)
            }
            ("EXPIRE", [key, seconds]) => Ok(Value::Int(i64::from(self.expire(key, integer(seconds)?)))),
            ("HGETALL", [key]) => Ok(array(
                self.fields(key)?.iter().flat_map(|(field, value)| [field, value]).cloned().map(Value::BulkString),
            )),
            ("HGET", [key, name]) => {
                let value = self.fields(key)?.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
                Ok(value.map_or(Value::Nil, Value::BulkString))
            }
            // A small hash is returned at once.
            ("HSCAN", [key, _, _, _]) => {
                let fields = self.fields(key)?.iter().flat_map(|(field, value)| [field, value]).cloned();
                Ok(array([text("0"), array(fields.map(Value::BulkString))]))
            }
            ("HMGET", [key, names @ ..]) => {
                let fields = self.fields(key)?;
                let value = |name| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
                Ok(array(names.iter().map(|name| value(name).map_or(Value::Nil, Value::BulkString))))
            }
            ("HSET", [key, pairs @ ..]) if !pairs.is_empty() && pairs.len() % 2 == 0 => self.set_fields(key, pairs),
            ("HDEL", [key, names @ ..]) => {
                let mut fields = self.fields(key)?.to_vec();
                let before = fields.len();
                fields.retain(|(field, _)| !names.contains(field));
                let removed = before - fields.len();
                match self.keys.get_mut(key) {
                    Some(_) if fields.is_empty() => drop(self.keys.remove(key)),
                    Some(kept) => Arc::make_mut(kept).data = Data::Hash(fields),
                    None => {}
                }
                Ok(Value::Int(removed.try_into().unwrap()))
            }
            ("RPUSH", [key, values @ ..]) => {
                let empty = || Arc::new(Key { data: Data::List(Vec::new()), expires: None });
                let key = self.keys.entry(key.clone()).or_insert_with(empty);
                let Data::List(list) = &mut Arc::make_mut(key).data else { return Err(WRONG_TYPE.to_owned()) };
                list.extend_from_slice(values);
                Ok(Value::Int(list.len().try_into().unwrap()))
            }
            // Only whole lists are read.
            ("LRANGE", [key, _, _]) => match self.key(key) {
                None => Ok(array([])),
                Some(Key { data: Data::List(list), .. }) => Ok(array(list.iter().cloned().map(Value::BulkString))),
                Some(_) => Err(WRONG_TYPE.to_owned()),
            },
            ("PUBLISH", [channel, message]) => {
                self.published.push((channel.clone(), message.clone()));
                Ok(Value::Int(0))
            }
            ("EVAL", [script, keys, rest @ ..]) => {
                let hash = hash_of(script);
                self.scripts.insert(hash.clone(), script.as_slice().into());
                lua::evaluate(self, &hash, script, integer(keys)?, rest)
            }
            ("EVALSHA", [hash, keys, rest @ ..]) => {
                let hash = String::from_utf8_lossy(hash);
                let script = self.scripts.get(hash.as_ref()).cloned();
                let script = script.ok_or("NOSCRIPT No matching script. Please use EVAL.")?;
                lua::evaluate(self, &hash, &script, integer(keys)?, rest)
            }
            _ => self.sorted_set(&name, words),
        }
    }

    /// Runs one command about a sorted set.
    fn sorted_set(&mut self, name: &str, words: &[Bytes]) -> Reply {
        match (name, words) {
            ("ZADD", [key, score, member]) => {
                let mut members = self.members(key)?;
                let before = members.len();
                members.retain(|(_, known)| known != member);
                members.push((integer(score)?, member.clone()));
                let added = members.len() - before;
                self.set_members(key, members);
                Ok(Value::Int(added.try_into().unwrap()))
            }
            ("ZRANGEBYSCORE", [key, after, to, _, _, _, most]) => {
                let (after, to) = (integer(after.strip_prefix(b"(").unwrap_or(after))?, integer(to)?);
                let members = self.members(key)?.into_iter().filter(|(score, _)| *score > after && *score <= to);
                let members = members.take(usize::try_from(integer(most)?).unwrap_or(0));
                Ok(array(members.flat_map(|(score, member)| [Value::BulkString(member), text(&score.to_string())])))
            }
            ("ZSCORE", [key, member]) => {
                let members = self.members(key)?;
                let score =
                    members.iter().find(|(_, known)| known == member).map(|(score, _)| text(&score.to_string()));
                Ok(score.unwrap_or(Value::Nil))
            }
            ("ZCARD", [key]) => Ok(Value::Int(self.members(key)?.len().try_into().unwrap())),
            ("ZREMRANGEBYSCORE", [key, from, to]) => {
                let (from, to, mut members) = (integer(from)?, integer(to)?, self.members(key)?);
                let before = members.len();
                members.retain(|(score, _)| !(from..=to).contains(score));
                let removed = before - members.len();
                if removed > 0 {
                    self.set_members(key, members);
                }
                Ok(Value::Int(removed.try_into().unwrap()))
            }
            ("ZREMRANGEBYRANK", [key, first, last]) => {
                let mut members = self.members(key)?;
                let count = i64::try_from(members.len()).unwrap();
                let rank = |at: i64| if at < 0 { count + at } else { at };
                let (first, last) = (rank(integer(first)?).max(0), rank(integer(last)?).min(count - 1));
                if first > last {
                    return Ok(Value::Int(0));
                }
                members.drain(usize::try_from(first).unwrap()..=usize::try_from(last).unwrap());
                self.set_members(key, members);
                Ok(Value::Int(last - first + 1))
            }
            _ => Err(format!("ERR unknown command or wrong number of arguments: '{name}'")),
        }
    }

    /// The key, if it has not expired.
    fn key(&mut self, key: &[u8]) -> Option<&Key> {
        let now = self.now;
        if self.keys.get(key).is_some_and(|key| key.expires.is_some_and(|at| at <= now)) {
            self.keys.remove(key);
        }
        self.keys.get(key).map(Arc::as_ref)
    }

    fn fields(&mut self, key: &[u8]) -> Result<&[(Bytes, Bytes)], String> {
        match self.key(key) {
            None => Ok(&[]),
            Some(Key { data: Data::Hash(fields), .. }) => Ok(fields),
            Some(_) => Err(WRONG_TYPE.to_owned()),
        }
    }

    fn members(&mut self, key: &[u8]) -> Result<Vec<(i64, Bytes)>, String> {
        match self.key(key) {
            None => Ok(Vec::new()),
            Some(Key { data: Data::Sorted(members), .. }) => Ok(members.clone()),
            Some(_) => Err(WRONG_TYPE.to_owned()),
        }
    }

    fn set_members(&mut self, key: &[u8], mut members: Vec<(i64, Bytes)>) {
        members.sort();
        let expires = self.keys.get(key).and_then(|key| key.expires);
        if members.is_empty() {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.to_vec(), Arc::new(Key { data: Data::Sorted(members), expires }));
        }
    }

    fn set_fields(&mut self, key: &[u8], pairs: &[Bytes]) -> Reply {
        self.fields(key)?;
        let empty = || Arc::new(Key { data: Data::Hash(Vec::new()), expires: None });
        let key = self.keys.entry(key.to_vec()).or_insert_with(empty);
        let Data::Hash(fields) = &mut Arc::make_mut(key).data else { return Err(WRONG_TYPE.to_owned()) };
        let mut added = 0;
        for pair in pairs.chunks(2) {
            if let Some((_, value)) = fields.iter_mut().find(|(field, _)| *field == pair[0]) {
                value.clone_from(&pair[1]);
            } else {
                fields.push((pair[0].clone(), pair[1].clone()));
                added += 1;
            }
        }
        Ok(Value::Int(added))
    }

    fn expire(&mut self, key: &[u8], seconds: i64) -> bool {
        if self.key(key).is_none() {
            return false;
        }
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => {
                let at = self.now + seconds * 1000;
                Arc::make_mut(self.keys.get_mut(key).unwrap()).expires = Some(at);
            }
            _ => drop(self.keys.remove(key)),
        }
        true
    }
}

/// The hash that names a script.
pub(crate) fn hash_of(script: &[u8]) -> String {
    ::redis::Script::new(&String::from_utf8_lossy(script)).get_hash().to_owned()
}

/// The words of a command, as a client sends them.
pub(crate) fn words_of(command: &Cmd) -> Vec<Bytes> {
    let words = command.args_iter().map(|word| match word {
        ::redis::Arg::Simple(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    });
    words.collect()
}

fn array(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(values.into_iter().collect())
}

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn integer(bytes: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "ERR value is not an integer or out of range".to_owned())
}

using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;

namespace LogonEvidence
{
    [DataContract]
    sealed class WireEvidence
    {
        [DataMember(Name = "type", IsRequired = true, Order = 0)] public string Type;
        [DataMember(Name = "value", IsRequired = true, Order = 1)] public string Value;
    }

    [DataContract]
    sealed class WireQuestion
    {
        [DataMember(Name = "request_id", IsRequired = true, Order = 0)] public string RequestId;
        [DataMember(Name = "upn", IsRequired = true, Order = 1)] public string Upn;
        [DataMember(Name = "evidence", IsRequired = true, Order = 2)] public List<WireEvidence> Evidence;
        [DataMember(Name = "phase", EmitDefaultValue = false, Order = 3)] public string Phase;
        [DataMember(Name = "sid", EmitDefaultValue = false, Order = 4)] public string Sid;
        [DataMember(Name = "rule", EmitDefaultValue = false, Order = 5)] public string Rule;
        [DataMember(Name = "security_context", EmitDefaultValue = false, Order = 6)] public string SecurityContext;
        [DataMember(Name = "disposition", EmitDefaultValue = false, Order = 7)] public string Disposition;
        [DataMember(Name = "storefront", EmitDefaultValue = false, Order = 8)] public string StoreFront;
        [DataMember(Name = "fas_server", EmitDefaultValue = false, Order = 9)] public string FasServer;
        [DataMember(Name = "correlation_id", EmitDefaultValue = false, Order = 10)] public string CorrelationId;
    }

    /// <summary>The answer, as read; nothing in it was doubted but its form.</summary>
    public sealed class WireAnswer
    {
        public const string Allow = "allow";
        public const string Deny = "deny";
        public const string Enforce = "enforce";
        public const string Observe = "observe";
        public const string Ok = "ok";

        public string RequestId;
        public string DecisionId;
        public string Decision;
        public string Reason;
        public string Rule;
        public string SecurityContext;
        public string Mode;
    }

    /// <summary>The JSON of POST /v1/decisions, exactly as plugin_bridge/contract has it.</summary>
    public static class Wire
    {
        public const int MaxAnswerBytes = 16384;
        const int MaxEvidence = 16;

        static readonly Encoding StrictUtf8 = new UTF8Encoding(false, true);

        static readonly string[] Members =
            { "request_id", "decision_id", "decision", "reason", "rule", "security_context", "mode" };

        /// <summary>The body for a question. Throws FailedException (QuestionInvalid).</summary>
        public static byte[] Write(EvidenceQuestion question, string requestId, string fasServer, int maxBytes)
        {
            if (question == null) throw Invalid("there is no question");
            if (question.Upn == null) throw Invalid("there is no UPN");
            if (question.Evidence == null) throw Invalid("there is no list of evidence");
            if (question.Phase != null && question.Phase != "prepare" && question.Phase != "assert")
                throw Invalid("the phase is neither prepare nor assert");
            var items = new List<WireEvidence>();
            long size = 0;
            foreach (KeyValuePair<string, byte[]> item in question.Evidence)
            {
                if (item.Key != EvidenceQuestion.SamlResponse) continue;
                byte[] value = item.Value ?? new byte[0];
                size += value.Length;
                if (size > maxBytes || items.Count == MaxEvidence)
                    throw Invalid("there is more evidence than the contract takes");
                items.Add(new WireEvidence { Type = item.Key, Value = Convert.ToBase64String(value) });
            }
            var wire = new WireQuestion
            {
                RequestId = requestId,
                Upn = Text("UPN", question.Upn, 1024),
                Evidence = items,
                Phase = question.Phase,
                Sid = Text("SID", question.Sid, 256),
                Rule = Text("rule", question.Rule, 256),
                SecurityContext = Text("security context", question.SecurityContext, 1024),
                Disposition = Text("disposition", question.Disposition, 256),
                StoreFront = Text("StoreFront server", question.StoreFront, 256),
                FasServer = Text("FasServer of the settings", fasServer, 256),
                CorrelationId = Text("correlation id", question.CorrelationId, 256),
            };
            using (var body = new MemoryStream())
            {
                new DataContractJsonSerializer(typeof(WireQuestion)).WriteObject(body, wire);
                if (body.Length > maxBytes) throw Invalid("the question is longer than the contract takes");
                return body.ToArray();
            }
        }

        /// <summary>Read an answer to the question with this id. Throws FailedException unless it is of exactly the
        /// form of the contract and is an answer to it.</summary>
        /// <remarks>The serializers of the framework take the last of doubled members, skip unknown ones and stop at
        /// the end of the first value, so the object is read letter by letter here.</remarks>
        public static WireAnswer Read(byte[] body, string requestId)
        {
            if (body.Length > MaxAnswerBytes) throw new FailedException(Failure.AnswerTooLarge, "the answer is too long");
            string text;
            try
            {
                text = StrictUtf8.GetString(body);
            }
            catch (DecoderFallbackException)
            {
                throw Unreadable("it is not UTF-8");
            }
            Dictionary<string, string> members = new Reader(text).ReadObject();
            foreach (string name in members.Keys)
            {
                if (Array.IndexOf(Members, name) < 0) throw Unreadable("it has a member that the contract has not");
            }
            foreach (string name in Members)
            {
                if (!members.ContainsKey(name)) throw Unreadable("the member " + name + " is missing");
                if (members[name] == null && name != "rule" && name != "security_context")
                    throw Unreadable("the member " + name + " is null");
            }
            var answer = new WireAnswer
            {
                RequestId = members["request_id"],
                DecisionId = members["decision_id"],
                Decision = members["decision"],
                Reason = members["reason"],
                Rule = members["rule"],
                SecurityContext = members["security_context"],
                Mode = members["mode"],
            };
            if (!string.Equals(answer.RequestId, requestId, StringComparison.Ordinal))
                throw new FailedException(Failure.OtherRequestId, "the answer is to another question");
            if (answer.Decision != WireAnswer.Allow && answer.Decision != WireAnswer.Deny)
                throw new FailedException(Failure.UnknownDecision, "the decision is neither allow nor deny");
            if (answer.Mode != WireAnswer.Enforce && answer.Mode != WireAnswer.Observe)
                throw Unreadable("the mode is neither enforce nor observe");
            if (answer.Reason.Length == 0) throw Unreadable("the reason is empty");
            bool good = answer.Reason == WireAnswer.Ok;
            if (answer.Decision == WireAnswer.Deny && good)
                throw new FailedException(Failure.AnswerContradictory, "a deny whose reason is ok");
            if (answer.Decision == WireAnswer.Allow && !good && answer.Mode != WireAnswer.Observe)
                throw new FailedException(Failure.AnswerContradictory, "an allow with a reason against it");
            if (answer.Decision == WireAnswer.Allow && answer.DecisionId.Length == 0)
                throw new FailedException(Failure.AnswerContradictory, "an allow without a record");
            return answer;
        }

        static string Text(string name, string value, int limit)
        {
            if (value == null) return null;
            int characters = value.Length;
            for (int i = 0; i < value.Length; i++)
            {
                if (!char.IsSurrogate(value[i])) continue;
                if (i + 1 == value.Length || !char.IsSurrogatePair(value[i], value[i + 1]))
                    throw Invalid("the " + name + " holds half a surrogate pair");
                i++;
                characters--;
            }
            if (characters > limit) throw Invalid("the " + name + " is longer than " + limit + " characters");
            return value;
        }

        static FailedException Invalid(string why)
        {
            return new FailedException(Failure.QuestionInvalid, why);
        }

        static FailedException Unreadable(string why)
        {
            return new FailedException(Failure.AnswerUnreadable, why);
        }

        /// <summary>Reads one JSON object (RFC 8259) whose values are strings or null.</summary>
        sealed class Reader
        {
            readonly string _text;
            int _at;

            internal Reader(string text)
            {
                _text = text;
            }

            internal Dictionary<string, string> ReadObject()
            {
                var members = new Dictionary<string, string>(StringComparer.Ordinal);
                Blanks();
                Take('{');
                Blanks();
                if (Peek() == '}')
                {
                    _at++;
                }
                else
                {
                    while (true)
                    {
                        Blanks();
                        string name = ReadString();
                        if (members.ContainsKey(name)) throw Unreadable("a member stands there twice");
                        Blanks();
                        Take(':');
                        Blanks();
                        members.Add(name, Peek() == 'n' ? ReadNull() : ReadString());
                        Blanks();
                        if (Peek() == '}') break;
                        Take(',');
                    }
                    _at++;
                }
                Blanks();
                if (_at != _text.Length) throw Unreadable("something follows the object");
                return members;
            }

            char Peek()
            {
                if (_at >= _text.Length) throw Unreadable("it ends too early");
                return _text[_at];
            }

            void Take(char expected)
            {
                if (Peek() != expected) throw Unreadable("it is not a JSON object of strings");
                _at++;
            }

            void Blanks()
            {
                while (_at < _text.Length && " \t\r\n".IndexOf(_text[_at]) >= 0) _at++;
            }

            string ReadNull()
            {
                if (string.CompareOrdinal(_text, _at, "null", 0, 4) != 0) throw Unreadable("it is not JSON");
                _at += 4;
                return null;
            }

            string ReadString()
            {
                Take('"');
                var value = new StringBuilder();
                while (true)
                {
                    char next = Peek();
                    _at++;
                    if (next == '"') break;
                    if (next < ' ') throw Unreadable("it is not JSON");
                    value.Append(next == '\\' ? ReadEscape() : next);
                }
                string text = value.ToString();
                try
                {
                    StrictUtf8.GetByteCount(text);
                }
                catch (EncoderFallbackException)
                {
                    throw Unreadable("it holds half a surrogate pair");
                }
                return text;
            }

            char ReadEscape()
            {
                char kind = Peek();
                _at++;
                switch (kind)
                {
                    case '"':
                    case '\\':
                    case '/':
                        return kind;
                    case 'b':
                        return '\b';
                    case 'f':
                        return '\f';
                    case 'n':
                        return '\n';
                    case 'r':
                        return '\r';
                    case 't':
                        return '\t';
                    case 'u':
                        int code = 0;
                        for (int i = 0; i < 4; i++)
                        {
                            int digit = "0123456789abcdef".IndexOf(char.ToLowerInvariant(Peek()));
                            if (digit < 0) throw Unreadable("it is not JSON");
                            code = code * 16 + digit;
                            _at++;
                        }
                        return (char)code;
                    default:
                        throw Unreadable("it is not JSON");
                }
            }
        }
    }
}
